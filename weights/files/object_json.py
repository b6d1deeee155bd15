"""A file's object tree as JSON: scalars as they are, all else as numbered nodes, so that shared objects stay shared."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from weights.errors import Unreadable
from weights.files.budget import Budget
from weights.files.pickles.bounds import checked_tree
from weights.files.pickles.standins import Counts, DefaultDict, Known, Name, Record, Size
from weights.files.tensors import Storage, Tensor, checked
from weights.types import Document


def encode(root: object, arrays: dict[str, np.ndarray]) -> Document:
    """The tree as JSON. Its numpy arrays are put into `arrays`; tensors are stored without elements. Unreadable for foreign objects."""
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
            parts = map(node, (value.cls, value.args, value.state, value.items))
            return ["record", *parts, value.called, *([node(value.listed)] if value.listed else [])]
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


def decode(data: Document, arrays: Mapping[str, np.ndarray], budget: Budget) -> object:
    """The tree that `encode` wrote; the storages of its tensors have no elements. Unreadable or Refused for one that no file could have."""
    nodes = data["nodes"]
    storages = [Storage(dtype=d, numel=n, fetch=_empty, location=location, untyped=u) for d, n, location, u in data["storages"]]
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
            lies = tuple(shape), tuple(stride), dtype
            made[number] = checked(budget, storages[store], offset, *lies, requires_grad=grad, kind=role, cls=cls)
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
            record.listed = value(rest[5]) if len(rest) > 5 else []
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

    root = value(data["root"])
    checked_tree(root, budget)
    return root


def _empty() -> np.ndarray:
    raise Unreadable("a tensor of a converted checkpoint has no elements of its own", "Export the checkpoint")


__all__ = ["decode", "encode"]
