"""Which of a file's optimizers has which of the model's parameters."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from weights.errors import Unmatched, Usage, shown
from weights.files.optimizers import Optimizer
from weights.files.tensors import Tensor
from weights.mapping.entries import Entry
from weights.optim import names
from weights.optim.divisions import Division, Rules, Slot, divided, fixed, slots
from weights.optim.names import Naming
from weights.optim.plan import groups_of

Groups = Sequence[Sequence[str]] | Mapping[str, Sequence[Sequence[str]]] | None
"""The keys or patterns of each group; by the optimizer's place, where the file has several."""


def groups_of_keys(said: object) -> bool:
    """Whether this is `Groups`: lists of keys, or such lists by place."""
    if isinstance(said, Mapping):
        return all(isinstance(place, str) and groups_of_keys(groups) for place, groups in said.items())
    if not isinstance(said, (list, tuple)) or not all(isinstance(group, (list, tuple)) for group in said):
        return False
    return all(isinstance(key, str) for group in said for key in group)


BY_SHAPES = "the shapes of the states, in the state_dict's order"


@dataclass(frozen=True)
class Owned:
    """The parameters of an optimizer. listed: the indices of each group. keys: by index. source: where they were found, in words."""

    listed: list[list[int]]
    keys: dict[int, str]
    source: str


def owned(optimizers: Sequence[Optimizer], entries: Sequence[Entry], naming: Naming, said: Groups, curved: Collection[str] | None = None,
          tables: Mapping[str, list[list[str]]] | None = None) -> list[Owned]:  # fmt: skip
    """The parameters of each optimizer of a file, which are disjoint.

    They are found in the groups' own `param_names`, else in the groups that the caller gives, else in the shapes of the states: the
    parameters of a group are in the model's order, with or without the fixed ones, which have no state, and without buffers.

    curved: the keys on manifolds, if they are known; a second moment that is a point's belongs to one of them, and where that leaves a
    choice, an optimizer that is not Riemannian has none of them. naming: for a single optimizer, its table, too.
    tables: by the place of each of several, its groups by the architecture.

    Raises Usage where two optimizers have the same parameter or several ways fit, and those of `names.keys_by_index`.
    """
    given = _by_place(optimizers, said)
    if len(optimizers) == 1:
        only = optimizers[0]
        naming = replace(naming, given=given.get(only.place))
        return [_by_other_groups(only, entries, naming, curved) or _told(only, entries, naming, curved)]
    found: dict[str, Owned] = {}
    for each in optimizers:
        if given.get(each.place) is not None or all(isinstance(group.get("param_names"), (list, tuple)) for group in groups_of(each.raw)):
            found[each.place] = _told(each, entries, Naming(naming.tensors, naming.prefix, given=given.get(each.place)))
        elif tables and each.place in tables:
            found[each.place] = _told(each, entries, Naming(naming.tensors, naming.prefix, table=tables[each.place]))
    taken: dict[str, str] = {}
    for place, own in found.items():
        for key in own.keys.values():
            if key in taken:
                raise Usage(f"the optimizers {taken[key]} and {place} both have {key!r}, and so are not one", _remedy(optimizers))
            taken[key] = place
    open_ = [each for each in optimizers if each.place not in found]
    found |= _by_shapes(open_, optimizers, [e for e in entries if e.key not in taken], naming.tensors, curved)
    return [found[each.place] for each in optimizers]


def _by_place(optimizers: Sequence[Optimizer], said: Groups) -> Mapping[str, Sequence[Sequence[str]]]:
    if said is None:
        return {}
    if isinstance(said, Mapping):
        known = [each.place for each in optimizers]
        for place in said:
            if place not in known:
                raise Usage(f"groups are given for {place!r}; the optimizers are {', '.join(known)}", "Correct --group (groups=...)")
        return said
    if len(optimizers) > 1:
        raise Usage(f"groups are given, and the file has {len(optimizers)} optimizers", _remedy(optimizers))
    return {optimizers[0].place: said}


def _told(optimizer: Optimizer, entries: Sequence[Entry], naming: Naming, curved: Collection[str] | None = None) -> Owned:
    groups = groups_of(optimizer.raw)
    listed = names.indices(groups)
    keys, source = names.keys_by_index(groups, listed, entries, naming) or _by_order(
        optimizer, next(filter(None, listed)), entries, naming, curved
    )
    return Owned(listed, keys, source)


def _by_other_groups(optimizer: Optimizer, entries: Sequence[Entry], naming: Naming, curved: Collection[str] | None) -> Owned | None:
    """The only way to divide the parameters by the shapes of the states, where the architecture's groups have other sizes than the file's;
    None where they have the same, something else names the parameters, or there is not one way."""
    listed = names.indices(groups_of(optimizer.raw))
    told = naming.given is not None or any("param_names" in group for group in groups_of(optimizer.raw))
    if told or naming.table is None or list(map(len, naming.table)) == list(map(len, listed)):
        return None
    with contextlib.suppress(Usage):
        return _by_shapes([optimizer], [optimizer], entries, naming.tensors, curved)[optimizer.place]
    return None


def _by_order(optimizer: Optimizer, indices: Sequence[int], entries: Sequence[Entry], naming: Naming,
              curved: Collection[str] | None) -> tuple[dict[int, str], str]:  # fmt: skip
    """The key of each index of the only group, whose parameters are in the state_dict's order, without buffers and repeated tensors.

    Which tensors are buffers, and whether the fixed ones are among the parameters, is not in a state_dict. Where numbers alone do not say
    it, the states do: their shapes, which are missing, and which are those of points. Raises Usage where several readings fit and differ in
    whose a state is, Unmatched where none does.
    """
    every = names.candidates(entries, naming.tensors)
    trained = [entry for entry in every if entry.role == "parameter"]
    mine = slots(optimizer, indices)
    begun = any(slot.trained for slot in mine)
    for keys in (every, trained):
        if len(keys) == len(mine) and (keys is every or not begun):
            return {index: entry.key for index, entry in zip(indices, keys)}, "the state_dict's order"
    found = divided([mine], every, Rules(sure=naming.sure)) if begun else None
    if found is not None and _shared(mine, found) and curved is not None:
        found = divided([mine], every, Rules(curved, sure=naming.sure)) or found
    remedy = _beside(every, len(mine))
    if found is None and len(trained) == len(mine) and not remedy:
        return {index: entry.key for index, entry in zip(indices, trained)}, "the state_dict's order"
    if found is None:
        raise Unmatched(
            f"the optimizer has {len(mine)} parameters; the model has {len(trained)} trained ones, or {len(every)} with the fixed ones",
            remedy or "Give groups=[[keys in the order of the training code]] (--group), or save model and optimizer together",
        )
    if (several := _shared(mine, found)) is not None:
        slot, keys = several
        raise Usage(
            f"the optimizer has {len(mine)} of {len(every)} tensors, and nothing says which: its state of index {slot.index} can be "
            f"that of {' or of '.join(shown(key) for key in keys[:3])}{' or of others' if len(keys) > 3 else ''}",
            f"{remedy}{', or give' if remedy else 'Give'} the keys in the order of the training code: "
            f"--group {','.join(entry.key for entry in every[:3])},... (groups=[[...]])",
        )
    taken = [entry.key for entry, row in zip(every, found.rows, strict=True) if row is not None]
    return dict(zip(indices, taken, strict=True)), "the state_dict's order" if taken == [e.key for e in trained] else BY_SHAPES


def _beside(every: Sequence[Entry], count: int) -> str:
    """The remedy where a part of the keys has as many parameters as the optimizer: others stand beside the model; else nothing."""
    for first in dict.fromkeys(f"{entry.key.partition('.')[0]}." for entry in every if "." in entry.key):
        own = [entry for entry in every if entry.key.startswith(first)]
        if len(own) < len(every) and count in (len(own), sum(entry.role == "parameter" for entry in own)):
            return f"If the model is what begins with {shown(first)}, give --prefix {first} (prefix={first!r})"
    return ""


def _shared(row: Sequence[Slot], found: Division, number: int = 0) -> tuple[Slot, list[str]] | None:
    """The first slot of a row with a state that can be several keys', and these."""
    every = ((slot, found.keys[number, place]) for place, slot in enumerate(row) if slot.trained)
    return next(((slot, keys) for slot, keys in every if len(keys) > 1), None)


def _by_shapes(open_: Sequence[Optimizer], every: Sequence[Optimizer], entries: Sequence[Entry], tensors: Mapping[str, Tensor],
               curved: Collection[str] | None) -> dict[str, Owned]:  # fmt: skip
    """The only way to divide the parameters, each group's in the model's order. Raises Usage if there is none, or more than one."""
    listed = {each.place: names.indices(groups_of(each.raw)) for each in open_}
    rows = [(each.place, number, slots(each, i)) for each in open_ for number, i in enumerate(listed[each.place])]
    numbered = [own for _, _, own in rows]
    total = sum(map(len, numbered))
    if not rows:
        return {}
    candidates, found = names.candidates(entries, tensors), None
    for loose, strict in itertools.product((False, True), (True, False)):
        if (found := divided(numbered, candidates, Rules(curved, strict, loose))) is not None:
            break
    if found is None and curved is not None and any(slot.point for own in numbered for slot in own):
        moved = next(place for place, _, own in rows if any(slot.point for slot in own))
        if any(divided(numbered, candidates, Rules(loose=loose)) is not None for loose in (False, True)):
            raise Usage(
                f"the optimizer at {moved} has moved points of a manifold, and none of the parameters that may be those lies on one",
                "Name them with --manifold KEY=PoincareBall:0.7, for example (manifolds={...})",
            )
    there = f"the file has {len(every)} optimizers: {', '.join(each.place for each in every)}"
    if found is None:
        told = " and ".join(f"{place} has {sum(map(len, own))} parameters" for place, own in listed.items())
        why = f"the model has {len(candidates)}" if total > len(candidates) else "the shapes of their states are not, in order, the model's"
        raise Usage(f"{there}. {told}, and {why}", _remedy(every, total <= len(candidates)))
    for entry, options in zip(candidates, found.options, strict=True):
        if len(options) > 1 and not fixed(entry):
            two = " or ".join("in none" if row is None else f"in group {rows[row][1]} of {rows[row][0]}" for row in options[:2])
            raise Usage(f"{there}. Nothing in it says whether {shown(entry.key)} is {two}", _remedy(every))
    for number, (place, _, row) in enumerate(rows):
        if (several := _shared(row, found, number)) is not None:
            two = " or ".join(shown(key) for key in several[1][:2])
            raise Usage(f"{there}. Nothing in it says whether index {several[0].index} of {place} is {two}", _remedy(every))
    keys: dict[str, dict[int, str]] = {place: {} for place in listed}
    for number, (place, _, row) in enumerate(rows):
        mine = [entry.key for entry, taken in zip(candidates, found.rows, strict=True) if taken == number]
        keys[place] |= {slot.index: key for slot, key in zip(row, mine, strict=True)}
    return {place: Owned(own, keys[place], BY_SHAPES) for place, own in listed.items()}


def _remedy(optimizers: Sequence[Optimizer], divisible: bool = True) -> str:
    """What there is to choose. divisible: whether the optimizers can be those of one model."""
    listed = [each.place for each in optimizers]
    keys = f"Give the keys of each with {' '.join(f'--group {place}=KEYS' for place in listed[:4])}, once for each of its groups "
    keys += f"(groups={{{listed[0]!r}: [[keys or patterns]], ...}}), choose"
    return (
        f"{keys if divisible else 'Choose'} one with --optimizer-at {' or '.join(listed[:4])} (optimizer_at=...), or none with "
        "--no-optimizer (optimizer=False)"
    )


def reported_place(optimizers: Sequence[Optimizer], place: str, error: Unmatched | Usage) -> Unmatched | Usage:
    """An error that names the optimizer, where there are several."""
    return error if len(optimizers) == 1 else type(error)(f"the optimizer at {place}: {error.cause}", error.remedy, path=error.path)


__all__ = ["Groups", "Owned", "groups_of_keys", "owned", "reported_place"]
