"""Whether what was read of a converted checkpoint belongs together: its keys, its numbers, the objects of its file, its optimizer's plan.

`weights.store` has made all of it from JSON that anybody may have changed. What export and diff take for granted is checked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from weights.contents import Contents
from weights.errors import Unreadable, shown
from weights.files import places
from weights.files import source as sources
from weights.files.dtypes import NUMPY
from weights.files.optimizers import found as optimizers
from weights.files.sections import split_again
from weights.mapping.entries import Entry, flatten, inverse
from weights.optim.plan import Plan, groups_of

ROLES = ("parameter", "buffer", "constant", "tied")
PLACED = ("parameter", "buffer")


def require_sound(contents: Contents) -> None:
    """Raises Unreadable, or another ConversionError, that names what does not fit the rest."""
    for name, table in (("settings", contents.settings), ("documents", contents.config), ("documents", contents.report)):
        if not isinstance(table, dict):
            raise _damaged(f"its {name} are {shown(table)}")
    if contents.epoch is not None and type(contents.epoch) is not int:
        raise _damaged(f"its epoch is {shown(contents.epoch)}")
    by_key = _checked_entries(contents.entries)
    _require_variables(contents, by_key)
    tensors = split_again(contents.source).tensors
    for key, entry in by_key.items():
        there = tensors.get(key)
        if there is None or there.shape != entry.shape or there.dtype != entry.dtype:
            raise _damaged(f"the key {shown(key)} is not one of the file's tensors, or is another one there")
    paths = {str(entry.path) for entry in contents.entries if entry.role == "parameter"}
    raw = {own.at: own.raw for own in optimizers(contents.source.root)}
    for plan in contents.plans:
        if plan.at not in raw:
            raise _damaged(f"there is no optimizer at {shown(places.written(plan.at))}")
        _require_plan(plan, raw[plan.at], by_key, paths)
    _require_kept(contents, {id(tensor) for key, tensor in tensors.items() if key in by_key}, {t.place for t in tensors.values()})


def _checked_entries(entries: Sequence[Entry]) -> dict[str, Entry]:
    by_key: dict[str, Entry] = {}
    for entry in entries:
        texts = [entry.key, *([entry.path] if entry.role in PLACED else []), *([entry.tied] if entry.role == "tied" else [])]
        sizes = all(type(n) is int and n >= 0 for n in entry.shape)
        if not all(isinstance(text, str) for text in texts) or entry.role not in ROLES or entry.dtype not in NUMPY or not sizes:
            raise _damaged(f"the entry of {shown(entry.key)} is none")
        if entry.key in by_key:
            raise _damaged(f"the key {shown(entry.key)} is there twice")
        by_key[entry.key] = entry
    for entry in entries:
        for _ in entries:
            if entry.role != "tied":
                break
            entry = by_key.get(str(entry.tied)) or entry
        if entry.role == "tied":
            raise _damaged(f"the key {shown(entry.key)} repeats no tensor")
    return by_key


def _require_variables(contents: Contents, by_key: dict[str, Entry]) -> None:
    flat = flatten({name: tree for name, tree in contents.variables.items() if tree or name != "params"})
    if sorted(flat) != sorted(str(entry.path) for entry in by_key.values() if entry.role in PLACED):
        raise _damaged("its parameters are not those of its keys")
    if contents.constants.keys() != {key for key, entry in by_key.items() if entry.role == "constant"}:
        raise _damaged("its constants are not those of its keys")
    for key, entry in by_key.items():
        if entry.role in PLACED:
            inverse(entry, np.broadcast_to(np.empty((), np.int8), np.shape(flat[str(entry.path)])), str(entry.path))
        elif entry.role == "constant":
            _require_like(contents.constants[key], entry.shape, entry.dtype, key)


def _require_kept(contents: Contents, known: set[int], known_places: set[tuple]) -> None:
    """Every tensor of the file has its numbers somewhere."""
    tensors, kept = sources.tensors_of(contents.source.root), contents.source.kept
    states = (sources.tensors_of(places.at(contents.source.root, plan.at)) for plan in contents.plans)
    held = known.union(id(tensor) for state in states for tensor in state)
    if not all(0 <= number < len(tensors) for number in kept):
        raise _damaged("it has numbers of a tensor that is not there")
    for number, tensor in enumerate(tensors):
        if number in kept:
            _require_like(kept[number], tensor.shape, tensor.dtype, f"kept/{number}")
        elif id(tensor) not in held and tensor.place not in known_places:
            raise _damaged(f"the numbers of the tensor {number} of shape {shown(tensor.shape)} are missing")


def _require_plan(plan: Plan, raw: Mapping, by_key: dict[str, Entry], paths: set[str]) -> None:
    listed = [group.get("params") for group in groups_of(raw)]
    indexes = [index for part in plan.listed for index in part]
    if listed != plan.listed or len(set(indexes)) != len(indexes) or plan.keys.keys() != {*indexes}:
        raise _damaged("its plan lists other indices than its optimizer")
    if not {*plan.keys.values()} <= by_key.keys() or len({*plan.keys.values()}) != len(indexes):
        raise _damaged("its plan names keys that are not there")
    moved = [path.removeprefix("params/") for path in paths]
    parts = [path for part in plan.parts for path in part]
    if not {*parts, *plan.still, *plan.axes} <= {*moved} or len({*parts}) != len(parts):
        raise _damaged("its plan names parameters that are not there")
    axes = [axis for own in plan.axes.values() for axis in (own if isinstance(own, list) else [own])]
    whole = [plan.per_step, plan.ahead, *plan.extras, *axes]
    if not all(type(number) is int for number in whole) or plan.per_step < 1:
        raise _damaged("its plan counts by what are no whole numbers")


def _require_like(array: ArrayLike, shape: tuple[int, ...], dtype: str, name: str) -> None:
    array = cast("np.ndarray", np.asarray(array))
    if array.shape != shape or array.dtype != NUMPY[dtype]:
        raise _damaged(f"{shown(name)} is {array.dtype} {array.shape}, not {dtype} {shape}")


def _damaged(what: str) -> Unreadable:
    return Unreadable(f"its description is damaged: {what}", "Convert again")


__all__ = ["require_sound"]
