"""What a torch file looked like around its numbers, kept so that it can be written again with new ones."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from weights.errors import Unmatched, Unreadable
from weights.files.dtypes import NUMPY
from weights.files.pickles.standins import Counts, DefaultDict, Known, Name, Record, Size
from weights.files.tensors import Storage, Tensor, contiguous_stride, window
from weights.mapping.convert import same_bits

Values = Callable[[Tensor], np.ndarray]


@dataclass(frozen=True)
class Source:
    """A file's object tree. Its tensors say where elements go; `kept` holds those that no variable and no moment gives."""

    root: object
    prefix: str
    model_at: tuple
    optimizer_at: tuple
    kept: Mapping[int, np.ndarray]
    """By position in `tensors_of(root)`."""


def tensors_of(root: object) -> list[Tensor]:
    """Each tensor of a tree once, in order of appearance; those inside modules and manifolds too."""
    return [node for node in _walk(root) if isinstance(node, Tensor)]


def at(root: Any, path: tuple) -> Any:
    """The object at a path of keys and positions."""
    for step in path:
        root = root[step]
    return root


def filled(source: Source, values: Values, replaced: Sequence[tuple[object, object]] = ()) -> object:
    """The tree with new elements in its tensors, ties kept, and with other sections (old, new) where they are given."""
    new = {id(old): section for old, section in replaced}
    stores = _storages([t for t in _walk(source.root, skip=frozenset(new)) if isinstance(t, Tensor)], values)

    def change(node: object) -> object:
        return new[id(node)] if id(node) in new else stores.get(id(node), node)

    return _copied(source.root, change, {})


def _storages(tensors: list[Tensor], values: Values) -> dict[int, Tensor]:
    """New tensors by the id of the old ones. A storage with several users is assembled from all of them."""
    users: dict[int, list[Tensor]] = {}
    for tensor in tensors:
        users.setdefault(id(tensor.storage), []).append(tensor)
    result: dict[int, Tensor] = {}
    for group in users.values():
        old = group[0].storage
        if len({t.place for t in group}) == 1 and group[0].numel < old.numel:
            first = group[0]
            new = Storage(first.dtype, first.numel, _alone(first, values), old.location, len(group))
            for tensor in group:
                result[id(tensor)] = replace(tensor, storage=new, offset=0, stride=contiguous_stride(tensor.shape))
            continue
        new = replace(old, fetch=_assembled(group, old, values), users=1, _shared=None)
        for tensor in group:
            result[id(tensor)] = replace(tensor, storage=new)
    return result


def _alone(tensor: Tensor, values: Values) -> Callable[[], np.ndarray]:
    return lambda: np.ascontiguousarray(values(tensor)).reshape(-1)


def _assembled(group: list[Tensor], old: Storage, values: Values) -> Callable[[], np.ndarray]:
    first = group[0]
    if len(group) == 1 and first.stride == contiguous_stride(first.shape) and first.dtype == old.dtype:
        return _alone(first, values)

    def fetch() -> np.ndarray:
        flat = np.zeros(old.numel, NUMPY[old.dtype])
        for tensor in group:
            _window(flat, tensor)[...] = values(tensor)
        for tensor in group[:-1]:
            if not same_bits(_window(flat, tensor), values(tensor)):
                raise Unmatched(
                    f"tensors of shape {tensor.shape} shared memory in the file and differ now",
                    "Export variables in which tied names stay equal",
                )
        return flat

    return fetch


def _window(flat: np.ndarray, tensor: Tensor) -> np.ndarray:
    return window(flat.view(NUMPY[tensor.dtype]), tensor)


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        return [*node.values(), *vars(node).values()] if isinstance(node, OrderedDict) else list(node.values())
    if isinstance(node, (list, tuple)):
        return list(node)
    if isinstance(node, Record):
        return [node.args, node.state, node.items]
    return [node.manifold] if isinstance(node, Tensor) else []


def _walk(root: object, skip: frozenset[int] = frozenset()) -> Iterator[object]:
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) in seen or id(node) in skip:
            continue
        children = _children(node)
        if children or isinstance(node, Tensor):
            seen.add(id(node))
            yield node
            stack.extend(reversed(children))


def _copied(node: Any, change: Callable[[object], object], memo: dict[int, Any]) -> Any:
    if id(node) in memo:
        return memo[id(node)]
    new: Any = change(node)
    if isinstance(new, Tensor):
        memo[id(node)] = new
        new.manifold = _copied(new.manifold, change, memo)
        return new
    if new is not node:
        return new
    if isinstance(node, dict):
        new = node.__class__() if not isinstance(node, DefaultDict) else DefaultDict(node.factory)
        memo[id(node)] = new
        new.update({key: _copied(value, change, memo) for key, value in node.items()})
        if isinstance(node, OrderedDict):
            vars(new).update(vars(node))
    elif isinstance(node, list):
        new = memo[id(node)] = []
        new.extend(_copied(value, change, memo) for value in node)
    elif isinstance(node, tuple):
        new = memo[id(node)] = type(node)(_copied(value, change, memo) for value in node)
    elif isinstance(node, Record):
        new = memo[id(node)] = Record(node.cls, called=node.called)
        new.args, new.items = _copied(node.args, change, memo), _copied(node.items, change, memo)
        new.state = _copied(node.state, change, memo)
    return new


# As JSON: scalars as they are, everything else as a numbered node, so that shared objects stay shared.


def encode(root: object, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The tree as JSON. Arrays of numpy that it holds go into `arrays`; tensors leave their elements out."""
    nodes: list[Any] = []
    index: dict[int, int] = {}
    storages: dict[int, int] = {}
    tables: list[list[Any]] = []

    def node(value: Any) -> Any:
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return {"float": value.hex()}
        if id(value) not in index:
            index[id(value)] = len(nodes)
            nodes.append(None)
            nodes[index[id(value)]] = composite(value)
        return {"node": index[id(value)]}

    def composite(value: Any) -> list[Any]:
        if isinstance(value, Tensor):
            store = value.storage
            if id(store) not in storages:
                storages[id(store)] = len(tables)
                tables.append([store.dtype, store.numel, store.location, store.untyped])
            return ["tensor", storages[id(store)], value.dtype, list(value.shape), list(value.stride), value.offset,
                    value.requires_grad, value.kind, value.cls, node(value.manifold)]  # fmt: skip
        if isinstance(value, OrderedDict):
            return ["ordered", [[node(k), node(v)] for k, v in value.items()], node(dict(vars(value)))]
        if isinstance(value, DefaultDict):
            return ["default", [[node(k), node(v)] for k, v in value.items()], node(value.factory)]
        if isinstance(value, dict):
            return ["counts" if isinstance(value, Counts) else "dict", [[node(k), node(v)] for k, v in value.items()]]
        for kind in _SEQUENCES:
            if type(value) is _SEQUENCES[kind]:
                return [kind, [node(v) for v in (sorted(value, key=repr) if "set" in kind else value)]]
        if isinstance(value, Record):
            return ["record", node(value.cls), node(value.args), node(value.state), node(value.items), value.called]
        if isinstance(value, (Name, Known)):
            return [
                "name",
                value.module,
                value.name,
                node(value.owner) if isinstance(value, Name) else None,
                isinstance(value, Known),
            ]
        if isinstance(value, (bytes, bytearray)):
            return ["bytes", base64.b64encode(bytes(value)).decode(), isinstance(value, bytearray)]
        if isinstance(value, complex) and not isinstance(value, np.generic):
            return ["complex", value.real.hex(), value.imag.hex()]
        if isinstance(value, (np.ndarray, np.generic)):
            name = f"numpy_{len(arrays)}"
            arrays[name] = np.asarray(value)
            return ["numpy", name, isinstance(value, np.generic)]
        raise Unreadable(f"a {type(value).__name__} in the file cannot be kept", "Save plain data and tensors")

    return {"root": node(root), "nodes": nodes, "storages": tables}


_SEQUENCES: dict[str, type] = {"list": list, "size": Size, "tuple": tuple, "set": set, "frozenset": frozenset}


def decode(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> object:
    """The tree that `encode` wrote; its tensors' storages hold no elements."""
    nodes = data["nodes"]
    storages = [Storage(d, n, _empty, location, untyped=u) for d, n, location, u in data["storages"]]
    made: dict[int, Any] = {}

    def value(ref: Any) -> Any:
        if not isinstance(ref, dict):
            return ref
        if "float" in ref:
            return float.fromhex(ref["float"])
        number = ref["node"]
        if number not in made:
            kind, *rest = nodes[number]
            make(number, kind, rest)
        return made[number]

    def make(number: int, kind: str, rest: list[Any]) -> None:
        if kind == "tensor":
            store, dtype, shape, stride, offset, grad, role, cls, manifold = rest
            made[number] = Tensor(storages[store], dtype, tuple(shape), tuple(stride), offset, grad, role, None, cls)
            made[number].manifold = value(manifold)
        elif kind in ("ordered", "default", "dict", "counts"):
            made[number] = {"ordered": OrderedDict, "default": DefaultDict, "dict": dict, "counts": Counts}[kind]()
            made[number].update((value(k), value(v)) for k, v in rest[0])
            if kind == "ordered":
                vars(made[number]).update(value(rest[1]))
            if kind == "default":
                made[number].factory = value(rest[1])
        elif kind == "list":
            made[number] = []
            made[number].extend(map(value, rest[0]))
        elif kind in _SEQUENCES:
            made[number] = _SEQUENCES[kind](value(v) for v in rest[0])
        elif kind == "record":
            made[number] = record = Record(Name("", ""), called=rest[4])
            record.cls, record.args, record.state, record.items = (value(r) for r in rest[:4])
        elif kind == "name":
            module, name, owner, known = rest
            made[number] = Known(module, name) if known else Name(module, name, value(owner))
        elif kind == "bytes":
            plain = base64.b64decode(rest[0])
            made[number] = bytearray(plain) if rest[1] else plain
        elif kind == "complex":
            made[number] = complex(*map(float.fromhex, rest))
        else:
            made[number] = arrays[rest[0]][()] if rest[1] else arrays[rest[0]]

    return value(data["root"])


def _empty() -> np.ndarray:
    raise Unreadable("a tensor of a converted checkpoint has no elements of its own", "Export the checkpoint")
