"""Which of a file's optimizers has which of the model's parameters."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from weights.errors import Unmatched, Usage, shown
from weights.files.optimizers import Optimizer
from weights.files.tensors import Tensor
from weights.mapping.entries import Entry
from weights.optim import names
from weights.optim.names import Naming
from weights.optim.plan import groups_of

Groups = Sequence[Sequence[str]] | Mapping[str, Sequence[Sequence[str]]] | None
"""The keys or patterns of each group; by the optimizer's place, where the file has several."""
WORK = 1 << 20
"""Steps of the search for the optimizer of each parameter."""


@dataclass(frozen=True)
class Owned:
    """The parameters of an optimizer. listed: the indices of each group. keys: by index. source: where they were found, in words."""

    listed: list[list[int]]
    keys: dict[int, str]
    source: str


def owned(optimizers: Sequence[Optimizer], entries: Sequence[Entry], naming: Naming, said: Groups,
          curved: Collection[str] | None = None) -> list[Owned]:  # fmt: skip
    """The parameters of each optimizer of a file, which are disjoint.

    They are found in the groups' own `param_names`, else in the groups that the caller gives, else in the shapes of the states: the
    parameters of a group are in the model's order. curved: the keys on manifolds, if they are known; a second moment that is a point's
    belongs to one of them, and where that leaves a choice, an optimizer that is not Riemannian has none of them. naming: for a single
    optimizer, its table, too.

    Raises Usage where two optimizers have the same parameter or several ways fit, and those of `names.keys_by_index`.
    """
    given = _by_place(optimizers, said)
    if len(optimizers) == 1:
        only = optimizers[0]
        return [_told(only, entries, Naming(naming.tensors, naming.prefix, naming.table, given.get(only.place)))]
    found: dict[str, Owned] = {}
    for each in optimizers:
        if given.get(each.place) is not None or all(isinstance(group.get("param_names"), (list, tuple)) for group in groups_of(each.raw)):
            found[each.place] = _told(each, entries, Naming(naming.tensors, naming.prefix, given=given.get(each.place)))
    taken: dict[str, str] = {}
    for place, own in found.items():
        for key in own.keys.values():
            if key in taken:
                raise Usage(f"the optimizers {taken[key]} and {place} both have {key!r}, and so are not one", _remedy(optimizers))
            taken[key] = place
    open_ = [each for each in optimizers if each.place not in found]
    found |= _by_shapes(open_, optimizers, [e for e in entries if e.key not in taken], curved)
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


def _told(optimizer: Optimizer, entries: Sequence[Entry], naming: Naming) -> Owned:
    groups = groups_of(optimizer.raw)
    listed = names.indices(groups)
    keys, source = names.keys_by_index(groups, listed, entries, naming)
    return Owned(listed, keys, source)


@dataclass(frozen=True)
class _Slot:
    """An index of an optimizer. shape: that of its state, None if it has none. flat: whether its optimizer is not Riemannian."""

    index: int
    shape: tuple[int, ...] | None
    flat: bool
    state: Mapping[str, object] = field(repr=False)

    @cached_property
    def point(self) -> bool:
        """Whether the state is a point's. It reads the moments from the file."""
        return not self.flat and is_point(self.state)

    def takes(self, entry: Entry, curved: Collection[str] | None, strict: bool) -> bool:
        """Whether it may be the one of this parameter."""
        if self.shape is not None and self.shape != entry.shape:
            return False
        return curved is None or (not (strict and self.flat) if entry.key in curved else not self.point)


def _by_shapes(open_: Sequence[Optimizer], every: Sequence[Optimizer], entries: Sequence[Entry],
               curved: Collection[str] | None) -> dict[str, Owned]:  # fmt: skip
    """The only way to divide the parameters, each group's in the model's order. Raises Usage if there is none, or more than one."""
    listed = {each.place: names.indices(groups_of(each.raw)) for each in open_}
    rows = [(each.place, number, [_slot(each, i) for i in own]) for each in open_ for number, own in enumerate(listed[each.place])]
    total = sum(len(slots) for _, _, slots in rows)
    if not rows:
        return {}
    ways: list[list[int | None]] = []
    candidates: list[Entry] = []
    for candidates, strict in itertools.product(names.candidates(entries), (True, False)):
        ways = list(_divisions([slots for _, _, slots in rows], candidates, curved, strict))
        if ways:
            break
    if not ways and curved is not None and any(slot.point for _, _, slots in rows for slot in slots):
        moved = next(place for place, _, slots in rows if any(slot.point for slot in slots))
        if any(any(_divisions([slots for _, _, slots in rows], keys, None, False)) for keys in names.candidates(entries)):
            raise Usage(
                f"the optimizer at {moved} has moved points of a manifold, and none of the parameters that may be those lies on one",
                "Name them with --manifold KEY=PoincareBall:0.7, for example (manifolds={...})",
            )
    there = f"the file has {len(every)} optimizers: {', '.join(each.place for each in every)}"
    if not ways:
        told = " and ".join(f"{place} has {sum(map(len, own))} parameters" for place, own in listed.items())
        why = f"the model has {len(candidates)}" if total > len(candidates) else "the shapes of their states are not, in order, the model's"
        raise Usage(f"{there}. {told}, and {why}", _remedy(every, total <= len(candidates)))
    if len(ways) > 1:
        first = next(n for n, (a, b) in enumerate(zip(*ways[:2])) if a != b)
        two = " or ".join("in none" if (row := way[first]) is None else f"in group {rows[row][1]} of {rows[row][0]}" for way in ways[:2])
        raise Usage(f"{there}. Nothing in it says whether {shown(candidates[first].key)} is {two}", _remedy(every))
    keys: dict[str, dict[int, str]] = {place: {} for place in listed}
    for n, (place, _, slots) in enumerate(rows):
        mine = [entry.key for entry, row in zip(candidates, ways[0], strict=True) if row == n]
        keys[place] |= {slot.index: key for slot, key in zip(slots, mine, strict=True)}
    return {place: Owned(own, keys[place], "the shapes of the states, in the state_dict's order") for place, own in listed.items()}


def _slot(optimizer: Optimizer, index: int) -> _Slot:
    from port_jax.optim.from_torch.kinds import TENSORS
    from port_jax.optim.from_torch.recognition import moves_points

    state = optimizer.raw["state"].get(index) or {}
    tensors = {name: value for name, value in state.items() if name in TENSORS and isinstance(value, Tensor)}
    shape = next((value.shape for value in tensors.values()), None)
    return _Slot(index, shape, not moves_points(groups_of(optimizer.raw)), state)


def is_point(state: Mapping[str, object], shape: Sequence[int] | None = None) -> bool:
    """Whether a second moment is that of a squared norm along the last axis, as geoopt's Riemannian Adam keeps of a point of this shape."""
    from port_jax.optim.from_torch.recognition import summed_along

    first, second = (state.get(name) for name in ("exp_avg", "exp_avg_sq"))
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or not first.shape or first.shape != second.shape:
        return False
    if shape is not None and tuple(first.shape) != tuple(shape):
        return False
    return summed_along(first.array(), second.array(), -1)


def _divisions(rows: Sequence[Sequence[_Slot]], entries: Sequence[Entry], curved: Collection[str] | None, strict: bool
               ) -> Iterator[list[int | None]]:  # fmt: skip
    """Up to two ways to give entries, in order, to the rows of slots, in order: by entry, the number of its row, None for no row.

    Entries are left out only where there are more than slots. Raises Usage where the search would be longer than WORK.
    """
    spare = len(entries) - sum(map(len, rows))
    if spare < 0:
        return
    start = tuple(0 for _ in rows)
    layers: list[dict[tuple[int, ...], None]] = [{start: None}]
    work = 0

    def moves(n: int, state: tuple[int, ...]) -> Iterator[tuple[int | None, tuple[int, ...]]]:
        for row, place in enumerate(state):
            if place < len(rows[row]) and rows[row][place].takes(entries[n], curved, strict):
                yield row, (*state[:row], place + 1, *state[row + 1 :])
        if n - sum(state) < spare:
            yield None, state

    for n in range(len(entries)):
        layers.append({after: None for state in layers[-1] for _, after in moves(n, state)})
        work += len(layers[-1]) * len(rows)
        if work > WORK:
            raise Usage(f"the optimizers have too many parameters to tell by the shapes of their states which has which ({len(entries)})",
                        "Give the parameters of each with --group PLACE=KEYS (groups={...})")  # fmt: skip
    end = tuple(map(len, rows))
    alive: list[set[tuple[int, ...]]] = [set() for _ in layers]
    alive[-1] = {end} & set(layers[-1])
    for n in reversed(range(len(entries))):
        alive[n] = {state for state in layers[n] if any(after in alive[n + 1] for _, after in moves(n, state))}
    paths: list[tuple[list[int | None], tuple[int, ...]]] = [([], start)] if alive[0] else []
    for n in range(len(entries)):
        paths = [([*way, row], after) for way, state in paths for row, after in moves(n, state) if after in alive[n + 1]][:2]
    yield from (way for way, _ in paths)


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


__all__ = ["Groups", "Owned", "is_point", "owned", "reported_place"]
