"""What a torch file looked like around its numbers, kept so that it can be written again with new ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.files.dtypes import NUMPY
from weights.files.pickles.standins import DefaultDict, Record
from weights.files.tensors import Storage, Tensor, contiguous_stride, same_bits, window

Values = Callable[[Tensor], np.ndarray]


@dataclass(frozen=True)
class Source:
    """A file's object tree. Its tensors say where elements go; `kept` has those that neither variables nor optimizer contain.

    prefix: what was removed from the model's keys. model_at, optimizer_at: the paths of the model, and of the one optimizer that is
    converted; the latter is empty where there are none, or several.
    """

    root: object
    prefix: str
    model_at: tuple
    optimizer_at: tuple
    kept: Mapping[int, np.ndarray]
    """By position in `tensors_of(root)`."""


def tensors_of(root: object, skip: frozenset[int] = frozenset()) -> list[Tensor]:
    """Each tensor of a tree once, in order of appearance, including those inside modules and manifolds. skip: the ids of objects into
    which nobody looks."""
    return [node for node in _walk(root, skip) if isinstance(node, Tensor)]


def filled(source: Source, values: Values, replaced: Sequence[tuple[object, object]] = ()) -> object:
    """The tree with new elements in its tensors, ties kept, and with sections exchanged as the pairs `replaced` (old, new) say."""
    new = {id(old): section for old, section in replaced}
    stores = _storages(tensors_of(source.root, frozenset(new)), values)

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
        if len({t.place for t in group}) == 1 and group[0].nbytes < old.nbytes:
            first = group[0]
            new = Storage(dtype=first.dtype, numel=first.numel, fetch=_alone(first, values), location=old.location, users=len(group))
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


def children_of(node: object) -> list[object]:
    """The objects directly inside of one, in modules and manifolds too."""
    if isinstance(node, dict):
        keys = [key for key in node if isinstance(key, Tensor)]
        return [*keys, *node.values(), *(vars(node).values() if isinstance(node, OrderedDict) else ())]
    if isinstance(node, (list, tuple)):
        return list(node)
    if isinstance(node, Record):
        return [node.args, node.state, node.items, node.listed]
    return [node.manifold] if isinstance(node, Tensor) else []


def _walk(root: object, skip: frozenset[int] = frozenset()) -> Iterator[object]:
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) in seen or id(node) in skip:
            continue
        children = children_of(node)
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
        pairs = ((_copied(key, change, memo) if isinstance(key, Tensor) else key, value) for key, value in node.items())
        new.update({key: _copied(value, change, memo) for key, value in pairs})
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
        new.state, new.listed = _copied(node.state, change, memo), _copied(node.listed, change, memo)
    return new


__all__ = ["Source", "children_of", "filled", "tensors_of"]
