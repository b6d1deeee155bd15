"""What an unpickled tree may contain: keys whose hashing is bounded, shallow nesting, no cycles, nothing foreign."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from weights.errors import Refused, shown
from weights.files.budget import CHARACTERS, DEPTH, STEPS, Budget
from weights.files.pickles.standins import Buildable, Known, Name, Record
from weights.files.source import children_of
from weights.files.tensors import Tensor

_DISTINCT = 1 << 61
"""Integers below this are their own hash, or share it with one other."""
_SHORT = 64
"""Text of which a repetition need not be paid for: a few bytes of the file repeat it."""


def checked_key(key: object, table: object, budget: Budget) -> None:
    """Pays for the hash of a key, and for its comparison with the keys of the table that share it; Refused for a key of another kind."""
    if isinstance(key, (str, bytes, bool, type(None), Name, Known, Record, Tensor)) or (type(key) is int and abs(key) < _DISTINCT):
        return  # compared by identity, or of a hash that a file cannot choose
    size = 1
    rest: list[tuple[object, int]] = [(key, 0)]
    while rest:
        part, depth = rest.pop()
        if isinstance(part, tuple) and depth < DEPTH:
            size += len(part)
            budget.spend(STEPS, len(part), "hashing the keys of a dictionary")
            rest.extend((item, depth + 1) for item in part)
        elif not isinstance(part, (str, bytes, int, float, complex, type(None), Name, Known, Record, Tensor, np.generic)):
            raise Refused(f"a dictionary key in the pickle is {shown(key)}", "Save a plain state_dict")
    budget.hashed(table, key, size)


class _Size(NamedTuple):
    """What an object unfolds into: objects and their text, tensors and the text of their names, and how deep they nest."""

    objects: int = 1
    text: int = 0
    tensors: int = 0
    names: int = 0
    depth: int = 0


class _Inner(NamedTuple):
    """What is inside of an object: values, by name where it has names. `lenient`: whether they are inside of a record, where classes may
    be that are not known."""

    values: Sequence[object]
    names: Iterable[object] | None
    lenient: bool


_PLAIN = frozenset({int, float, bool, type(None), complex})
_CONTAINERS = (dict, list, tuple, Record, Name, Known, Buildable)


def checked_tree(root: object, budget: Budget) -> None:
    """Refuses nesting beyond 200, containers and modules that contain themselves, and a foreign object that is all there is.

    Foreign objects beside a model are carried as records; what is in them is paid for like the rest.

    An object that stands in several places is paid for in each but the first, with all that is in it. So whatever walks the tree later
    may forget where it has been.
    """
    _Tree(budget).check(root)


class _Tree:
    def __init__(self, budget: Budget):
        self.budget = budget
        self.sizes: dict[tuple[int, bool], _Size] = {}
        self.met: set[int] = set()
        self.more = False
        """Whether there are objects that are not unfolded: what modules have beside their tensors, and manifolds."""

    def check(self, root: object) -> None:
        if isinstance(root, (Name, Buildable)) or (isinstance(root, Record) and not root.is_module and not _data(root)):
            what = f"contains a {root.name:.120}" if isinstance(root, Record) else f"refers to {shown(root)}"
            raise Refused(f"the file {what}, which is not on the reader's list", "Save the state_dict alone")
        active: set[tuple[int, bool]] = set()
        stack: list[tuple[object, bool, _Inner | None]] = [(root, False, None)] if isinstance(root, _CONTAINERS) else []
        while stack:
            node, lenient, inner = stack.pop()
            at = id(node), lenient
            if inner is not None:
                active.discard(at)
                self.sizes[at] = self._measured(inner)
            elif at in active:
                raise Refused("a container of the pickle contains itself", "Save a plain state_dict")
            elif at not in self.sizes and (inner := self._inside(node, lenient)).values:
                active.add(at)
                stack.append((node, lenient, inner))
                stack.extend((value, inner.lenient, None) for value in inner.values if isinstance(value, _CONTAINERS) and value)
        whole = self.sizes.get((id(root), False), _Size())
        self.budget.spend(CHARACTERS, whole.names, "the names of its tensors")
        if self.more:
            _check_depth(root)

    def _inside(self, node: object, lenient: bool) -> _Inner:
        """What those meet who walk the tree: of a module, what its state_dict has. Refused for a foreign object outside of records."""
        if isinstance(node, dict):
            keys = [key for key in node if isinstance(key, tuple) or (isinstance(key, str) and len(key) > _SHORT)]
            return _Inner([*node.values(), *keys], node, lenient)
        if isinstance(node, (list, tuple)):
            return _Inner(node, None, lenient)
        if isinstance(node, Record):
            self.more = True
            if node.is_module:
                parts = [node.attributes.get(part) for part in ("_parameters", "_buffers", "_modules")]
                named = [pair for part in parts if isinstance(part, dict) for pair in part.items() if isinstance(pair[1], (Tensor, Record))]
                return _Inner([value for _, value in named], [name for name, _ in named], True)
            if _data(node) or not lenient:
                named = [*node.items.items(), *node.attributes.items()]
                return _Inner([*(value for _, value in named), node.args, node.listed], [name for name, _ in named], True)
        if isinstance(node, Buildable):
            raise Refused("the file contains a part of a tensor beside its tensors", "The file is damaged")
        return _Inner((), None, lenient)

    def _measured(self, inner: _Inner) -> _Size:
        objects, text, tensors, names, depth = 1, 0, 0, 0, 0
        for value, name in zip_longest(inner.values, inner.names or ()):
            if type(value) in _PLAIN:
                objects += 1
                continue
            size = self.sizes.get((id(value), inner.lenient)) or self._leaf(value)
            if size.objects > 1 or size.text > _SHORT:
                if id(value) in self.met:
                    self.budget.spend(STEPS, size.objects, "what it repeats")
                    self.budget.spend(CHARACTERS, size.text, "what it repeats")
                self.met.add(id(value))
            objects, text, tensors = objects + size.objects, text + size.text, tensors + size.tensors
            names, depth = names + size.names, max(depth, 1 + size.depth)
            if size.tensors and isinstance(name, str):
                names += len(name) * size.tensors
        if depth > DEPTH:
            raise Refused(f"it nests more than {DEPTH} deep", "Save a plain state_dict")
        return _Size(objects, text, tensors, names, depth)

    def _leaf(self, value: object) -> _Size:
        if isinstance(value, Tensor):
            self.more = self.more or value.manifold is not None
            return _Size(tensors=1)
        if isinstance(value, (str, bytes, bytearray)):
            return _Size(text=len(value))
        return _Size(1 + value.size) if isinstance(value, np.ndarray) else _Size()


def _check_depth(root: object) -> None:
    """Refuses what nests too deeply for those who copy and write the whole tree, each object once."""
    seen: set[int] = set()
    stack = [(root, 0)]
    while stack:
        node, depth = stack.pop()
        if id(node) in seen or not (children := children_of(node)):
            continue
        if depth > DEPTH:
            raise Refused(f"it nests more than {DEPTH} deep", "Save a plain state_dict")
        seen.add(id(node))
        stack.extend((inner, depth + 1) for inner in reversed(children) if type(inner) not in _PLAIN)


def _data(record: Record) -> bool:
    return isinstance(record.cls, Known) or (
        record.name.startswith("hypll.tensors.") and isinstance(record.attributes.get("tensor"), Tensor)
    )


__all__ = ["checked_key", "checked_tree"]
