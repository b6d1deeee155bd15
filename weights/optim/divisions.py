"""Every way to give a file's parameters, in the model's order, to the indices of its optimizers, and what these ways differ in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from weights.errors import Usage
from weights.files.optimizers import Optimizer
from weights.files.tensors import Tensor
from weights.mapping.entries import Entry
from weights.mapping.named_manifolds import RAW
from weights.optim.forms import unwrapped_state
from weights.optim.plan import begun, groups_of

WORK = 1 << 20
"""Steps of the search."""
STILL = ("constant", "buffer")
"""The roles of entries that are not trained; buffers only if they are parameters in torch, see `names.FROZEN`."""
Row = int | None
"""The number of a row of slots; None for an entry that no optimizer has."""


@dataclass(frozen=True)
class Slot:
    """An index of an optimizer.

    shape: that of its state, None if it has none. flat: whether its optimizer is not Riemannian. trained: whether it has taken a step.
    idle: whether it has not, though others of its optimizer have: its parameter is fixed, or has had no gradient.
    """

    index: int
    shape: tuple[int, ...] | None
    flat: bool
    trained: bool
    idle: bool
    state: Mapping[str, object] = field(repr=False)

    @cached_property
    def point(self) -> bool:
        """Whether the state is a point's. It reads the moments from the file."""
        return not self.flat and is_point(self.state)


@dataclass(frozen=True)
class Rules:
    """Which entry may be whose.

    curved: the keys on manifolds, if they are known: a state that is a point's belongs to one of them. strict: whether an optimizer that is
    not Riemannian has none of them. loose: whether a fixed entry may be any index without a state, and not only an idle one. sure: whether
    the architecture says what is trained; then all of that has an index, and nothing that is fixed has a state.
    """

    curved: Collection[str] | None = None
    strict: bool = False
    loose: bool = False
    sure: bool = False

    def allow(self, slot: Slot, entry: Entry) -> bool:
        """Whether the entry may be the one of this index."""
        if slot.shape is not None and slot.shape != entry.shape:
            return False
        if entry.role in STILL and (self.sure or not _curvature(entry) if slot.trained else not (slot.idle or self.loose)):
            return False
        return self.curved is None or (not (self.strict and slot.flat) if entry.key in self.curved else not slot.point)

    def may_lack(self, entry: Entry) -> bool:
        """Whether the entry may have no index."""
        return entry.role in STILL or not self.sure


@dataclass(frozen=True)
class Division:
    """The ways of one quality.

    rows: one of them: by entry, the number of its row. options: by entry, the rows that it has in all of them. keys: by row and place, the
    keys that a slot has in all of them.
    """

    rows: list[Row]
    options: list[list[Row]]
    keys: dict[tuple[int, int], list[str]]


def slots(optimizer: Optimizer, indices: Sequence[int]) -> list[Slot]:
    """The slots of some of an optimizer's indices."""
    from port_jax.optim.from_torch.kinds import TENSORS
    from port_jax.optim.from_torch.recognition import moves_points

    states, flat = optimizer.raw["state"], not moves_points(groups_of(optimizer.raw))
    some, result = any(begun(state) for state in states.values()), []
    for index in indices:
        state = states.get(index) or {}
        tensors = [value for name, value in unwrapped_state(state).items() if name in TENSORS and isinstance(value, Tensor)]
        trained = begun(state)
        result.append(Slot(index, tensors[0].shape if tensors else None, flat, trained, some and not trained, state))
    return result


def is_point(state: Mapping[str, object], shape: Sequence[int] | None = None) -> bool:
    """Whether a second moment is that of a squared norm along the last axis, as geoopt's Riemannian Adam keeps of a point of this shape."""
    from port_jax.optim.from_torch.recognition import summed_along

    first, second = (state.get(name) for name in ("exp_avg", "exp_avg_sq"))
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or not first.shape or first.shape != second.shape:
        return False
    if shape is not None and tuple(first.shape) != tuple(shape):
        return False
    return summed_along(first.array(), second.array(), -1)


def fixed(entry: Entry) -> bool:
    """Whether an entry is not trained, unless an optimizer has a state of it: a constant, or a curvature."""
    return entry.role in STILL or _curvature(entry)


def divided(rows: Sequence[Sequence[Slot]], entries: Sequence[Entry], rules: Rules) -> Division | None:
    """The ways to give entries, in order, to the rows of slots, in order, None if there is none.

    Entries are left out only where there are more than slots. Of all ways those count in which most idle slots are fixed entries': torch's
    `model.parameters()` has these, and never a state of them. Raises Usage where the search would be longer than WORK.
    """
    spare = len(entries) - sum(map(len, rows))
    if spare < 0:
        return None
    start, end = tuple(0 for _ in rows), tuple(map(len, rows))
    layers: list[dict[tuple[int, ...], None]] = [{start: None}]
    work = 0

    def moves(n: int, state: tuple[int, ...]) -> Iterator[tuple[Row, tuple[int, ...], int]]:
        for row, place in enumerate(state):
            if place < len(rows[row]) and rules.allow(slot := rows[row][place], entries[n]):
                yield row, (*state[:row], place + 1, *state[row + 1 :]), int(slot.idle and fixed(entries[n]))
        if n - sum(state) < spare and rules.may_lack(entries[n]):
            yield None, state, 0

    for n in range(len(entries)):
        layers.append({after: None for state in layers[-1] for _, after, _ in moves(n, state)})
        work += len(layers[-1]) * len(rows)
        if work > WORK:
            raise Usage(f"the optimizers have too many parameters to tell by the shapes of their states which has which ({len(entries)})",
                        "Give the parameters of each with --group PLACE=KEYS (groups={...})")  # fmt: skip
    best: list[dict[tuple[int, ...], int]] = [{} for _ in layers]
    best[-1] = {end: 0} if end in layers[-1] else {}
    for n in reversed(range(len(entries))):
        for state in layers[n]:
            if gains := [gain + best[n + 1][after] for _, after, gain in moves(n, state) if after in best[n + 1]]:
                best[n][state] = max(gains)
    return _traced(entries, start, best, moves) if best[0] else None


Moves = Callable[[int, tuple[int, ...]], Iterator[tuple[Row, tuple[int, ...], int]]]


def _traced(entries: Sequence[Entry], start: tuple[int, ...], best: Sequence[Mapping[tuple[int, ...], int]], moves: Moves) -> Division:
    """All of the best ways together, and the first of them."""
    way: list[Row] = []
    options: list[list[Row]] = []
    keys: dict[tuple[int, int], list[str]] = {}
    states, at = {start: None}, start
    for n, entry in enumerate(entries):
        found: dict[Row, None] = {}
        after: dict[tuple[int, ...], None] = {}
        row, at_next = None, at
        for state in states:
            good = [
                (taken, to) for taken, to, gain in moves(n, state) if best[n + 1].get(to, -1) + gain == best[n][state] and to in best[n + 1]
            ]
            found.update({taken: None for taken, _ in good})
            after.update({to: None for _, to in good})
            for taken, _ in good:
                if taken is not None and entry.key not in (names := keys.setdefault((taken, state[taken]), [])):
                    names.append(entry.key)
            if state == at:
                row, at_next = good[0]
        way.append(row)
        options.append(list(found))
        states, at = after, at_next
    return Division(way, options, keys)


def _curvature(entry: Entry) -> bool:
    return entry.key.rpartition(".")[2] in RAW and all(n == 1 for n in entry.shape)


__all__ = ["Division", "Rules", "Slot", "divided", "fixed", "is_point", "slots"]
