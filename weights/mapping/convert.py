"""The one engine between torch's keys and flax's variables, both ways: nothing missing, nothing left over, nothing guessed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from weights.errors import Unmatched
from weights.files.dtypes import NUMPY
from weights.files.tensors import Tensor, blocks, same_bits
from weights.mapping import buffers, foreign, own_ports
from weights.mapping.entries import Entry, flatten, inverse, place
from weights.mapping.rules import Layout, Rule, fill, matching

Flat = dict[str, np.ndarray]
Problem = tuple[str, str]
"""A cause and its remedy."""


def plan(tensors: Mapping[str, Tensor], rules: Sequence[Rule], targets: Mapping[str, tuple[int, ...]] | None,
         own: str = "") -> list[Entry]:  # fmt: skip
    """The entry of every key, in the file's order. `targets`: the shapes of the model's variables by path; None accepts any. `own`: the
    place of a port that a person has written, whose every rule has to fit a key; empty for a table of a family of models.

    Raises Unmatched, naming the first problem, for a key that no rule or several rules fit, a rule that fits no key, a variable that no key
    or two keys fill, a shape that differs from the model's, a buffer among the parameters, a fixed curvature of another number, and names
    that are tied in the file but not in the table.
    """
    problems: list[Problem] = []
    entries: list[Entry] = []
    filled: dict[str, str] = {}
    unexpected: list[str] = []
    used: set[int] = set()
    for key, tensor in tensors.items():
        found = matching(rules, key)
        used |= {id(rule) for rule, _ in found}
        if len(found) > 1:
            listed = " and ".join(f"{rule.key!r} ({rule.at})" for rule, _ in found)
            problems.append((f"the key {key!r} fits {len(found)} rules: {listed}", "Remove one of them, or make its pattern narrower"))
        elif not found:
            unexpected.append(key)
        else:
            rule, values = found[0]
            entry = _entry(key, tensor, rule, values)
            entries.append(entry)
            problems.extend(buffers.problems(entry, tensor, rule))
            if path := entry.path:
                if path in filled:
                    problems.append((f"the keys {filled[path]!r} and {key!r} both become {path}", "Remove one of them"))
                filled[path] = key
                problems.extend(_misfit(entry, targets, rule, own))
    absent = {path: shape for path, shape in (targets or {}).items() if path not in filled}
    unused = [rule for rule in rules if own and not rule.optional and id(rule) not in used]
    if own:
        problems += own_ports.problems(unused, unexpected, absent, tensors, own)
    else:
        missing = sorted(_key_of(path, rules) for path in absent)
        problems[:0] = [*_replaced(unexpected), *_missing(missing, unexpected), *_unexpected(unexpected, missing)]
    problems.extend(_ties(entries, tensors))
    if problems:
        cause, remedy = problems[0]
        more = f" ({len(problems) - 1} more problem{'s' * (len(problems) > 2)} after this one)" if len(problems) > 1 else ""
        raise Unmatched(cause + more, remedy)
    return entries


def _entry(key: str, tensor: Tensor, rule: Rule, values: Mapping[str, str]) -> Entry:
    path = rule.path and fill(rule.path, values)
    role = ("parameter" if path.startswith("params/") else "buffer") if path else "tied" if rule.tied else "constant"
    tied = rule.tied and fill(rule.tied, values)
    return Entry(key=key, role=role, shape=tensor.shape, dtype=tensor.dtype, path=path, layout=rule.layout, tied=tied)


def to_flax(
    tensors: Mapping[str, Tensor], entries: Sequence[Entry], leaf: Callable[[np.ndarray], object] = np.asarray
) -> tuple[dict, Flat]:
    """Nested variables and flat constants. leaf: makes a leaf of the variables from each array, which is let go before the next is read."""
    variables: dict = {}
    constants: Flat = {}
    last = {id(tensors[entry.key].storage): entry.key for entry in entries}
    for entry in entries:
        if entry.role == "tied":
            _require_repeated(entry, tensors)
        elif entry.role == "constant":
            constants[entry.key] = np.array(_numbers(entry, tensors), order="C")
        else:
            assert entry.path is not None
            place(variables, entry.path, leaf(entry.layout.forward(_numbers(entry, tensors))))
        if last[id(tensors[entry.key].storage)] == entry.key:
            tensors[entry.key].storage.forget()
    return variables, constants


def _require_repeated(entry: Entry, tensors: Mapping[str, Tensor]) -> None:
    assert entry.tied is not None
    array = tensors[entry.key].array()
    if not same_bits(array, tensors[entry.tied].array()):
        raise Unmatched(
            f"the key {entry.key!r} differs from {entry.tied!r}, which it should repeat",
            "The file was edited, or the model unties them: such a model has no counterpart",
        )


def _numbers(entry: Entry, tensors: Mapping[str, Tensor]) -> np.ndarray:
    """The finite elements of a constant, a parameter or a buffer."""
    array = tensors[entry.key].array()
    _finite(entry, array)
    if entry.role != "constant" and array.dtype.kind in "iub":
        raise Unmatched(
            f"the key {entry.key!r} is {entry.dtype}; a parameter has floating-point numbers",
            "Save the weights before they are quantised",
        )
    return array


def to_torch(entries: Sequence[Entry], variables: Mapping, constants: Mapping[str, np.ndarray]) -> Callable[[str], np.ndarray]:
    """The way back: a function from a key to its array, in torch's layout and the file's type."""
    by_key = {entry.key: entry for entry in entries}
    flat = flatten(variables)
    expected = {entry.path for entry in entries if entry.path}
    if expected != set(flat):
        odd = sorted(map(str, expected ^ set(flat)))
        raise Unmatched(
            f"the paths of the variables differ from those that were converted: {', '.join(odd[:3])}",
            "Export variables of the same model",
        )

    def value(key: str) -> np.ndarray:  # not by recursion: a function that holds itself keeps the arrays until a collection
        entry = by_key[key]
        while entry.role == "tied":
            assert entry.tied is not None
            entry = by_key[entry.tied]
        if entry.role == "constant":
            return constants[entry.key]
        array = inverse(entry, np.asarray(flat[str(entry.path)]), str(entry.path))
        return array if array.dtype == NUMPY[entry.dtype] else _recast(array, entry)

    return value


def _misfit(entry: Entry, targets: Mapping[str, tuple[int, ...]] | None, rule: Rule, own: str) -> list[Problem]:
    if targets is None:
        return []
    want = targets.get(str(entry.path))
    if want is None:
        near = difflib.get_close_matches(str(entry.path), targets, 1, 0)
        remedy = f"Correct the rule: the nearest path is {near[0]}" if near else "The flax module has no variables"
        return [
            (
                f"the key {entry.key!r} becomes {entry.path}, which the model does not have" + f" ({rule.at})" * bool(own),
                remedy if own else "Check the configuration: it describes a smaller model",
            )
        ]
    got = _shape(entry.layout, entry.shape)
    if got == want:
        return []
    if own:
        return [(
            f"the key {entry.key!r} has shape {entry.shape}, {entry.layout.name} {got}; {entry.path} takes {want} ({rule.at})",
            "Give the rule the layout that leads there (TRANSPOSE, permute, reshape), or the flax module the file's sizes",
        )]  # fmt: skip
    expected = next((s for s in (want, want[::-1]) if _shape(entry.layout, s) == want), want)
    turned = " (its transpose would fit)" if _shape(entry.layout, entry.shape[::-1]) == want else ""
    return [(f"the key {entry.key!r} has shape {entry.shape}; the model takes {expected}{turned}",
             "Transpose it in torch" if turned else "Check the configuration: widths, heads, numbers of nodes and classes")]  # fmt: skip


def _shape(layout: Layout, shape: tuple[int, ...]) -> tuple[int, ...]:
    return layout.forward(np.broadcast_to(np.empty((), np.int8), shape)).shape


def _key_of(path: str, rules: Sequence[Rule]) -> str:
    return next((key for rule in rules if (key := rule.key_for(path))), path)


def _replaced(unexpected: list[str]) -> list[tuple[str, str]]:
    """Keys that stand in the place of one that is missing."""
    if (written := foreign.remedy(unexpected)) is None:
        return []
    keys, call = written
    return [(f"the keys {foreign.some(keys)} stand in the place of a tensor", f"Save the model after {call}")]


def _missing(missing: list[str], unexpected: list[str]) -> list[tuple[str, str]]:
    problems = []
    for key in missing:
        near = difflib.get_close_matches(key, unexpected, 1)
        remedy = (
            f"The nearest key in the file is {near[0]!r}: rename it"
            if near
            else "Check the file and the configuration: the model needs this key"
        )
        problems.append((f"the key {key!r} is missing", remedy))
    return problems


def _unexpected(unexpected: list[str], missing: list[str]) -> list[tuple[str, str]]:
    problems = []
    for key in unexpected:
        near = difflib.get_close_matches(key, missing, 1)
        remedy = (
            f"If it should be {near[0]!r}, rename it"
            if near
            else "Check the architecture (--arch, arch=...): no rule of its table fits this key"
        )
        problems.append((f"the key {key!r} is unexpected", remedy))
    return problems


def _ties(entries: Sequence[Entry], tensors: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Names that share a tensor although the table trains them apart, and tied names whose tensor is not in the file."""
    problems = [
        (f"the key {e.key!r} repeats {e.tied!r}, which is missing", "Save the whole state_dict")
        for e in entries if e.role == "tied" and e.tied not in tensors
    ]  # fmt: skip
    first: dict[tuple, str] = {}
    for entry in entries:
        if entry.path:
            other = first.setdefault(tensors[entry.key].place, entry.key)
            if other != entry.key:
                problems.append((f"the keys {other!r} and {entry.key!r} are one tensor in the file; the model trains them apart",
                                 "If that is intended, untie them in torch (.clone())"))  # fmt: skip
    return problems


def _finite(entry: Entry, array: np.ndarray) -> None:
    if array.dtype.kind in "iub":
        return
    trained = entry.role == "parameter"
    is_good = np.isfinite if trained else lambda block: ~np.isnan(block)  # a mask of attention has -inf
    if not all(is_good(block).all() for block in blocks(array)):
        good = is_good(array)
        where = tuple(int(i) for i in np.argwhere(~good)[0])
        bad = int((~good).sum())
        raise Unmatched(
            f"the key {entry.key!r} contains {array[where]} at {where}: {bad} of {array.size} values are not finite",
            "Use an earlier checkpoint"
            + f"; or if it is no parameter but a mask, say, write weights.constant({entry.key!r}) in a port of your own" * trained,
        )


def _recast(array: np.ndarray, entry: Entry) -> np.ndarray:
    raise Unmatched(
        f"{entry.path} is {array.dtype}; {entry.key!r} was {entry.dtype} in the file",
        "Export variables of the same type",
    )


__all__ = ["plan", "to_flax", "to_torch"]
