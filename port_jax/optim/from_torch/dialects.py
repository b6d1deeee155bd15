"""Dialects: how the versions of a torch class count their steps, and where in the state the count is."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from port_jax.optim.from_torch.sections import Entry, Settings

__all__ = ["Dialect", "Tally", "integer", "tally", "together"]


class Dialect(enum.StrEnum):
    """How steps are counted, and where the count is. The values are stored in converted folders and reports."""

    PARAMETER = "parameter"
    """`state[i]["step"]`: geoopt 0.5.1 and torch."""
    GROUP = "group"
    """`param_groups[g]["step"]`, once per update: geoopt 0.4.1 to 0.5.0, its RiemannianSGD always, fully-hyperbolic-nn."""
    DOUBLE = "double"
    """`param_groups[g]["step"]`, twice for each parameter with state: geoopt until 0.3.1 and HGCN's copy of it."""
    NONE = "none"
    """Nowhere: torch.optim.SGD, and optimizers without state."""

    @property
    def by_group(self) -> bool:
        """Whether the count is in the group."""
        return self in (Dialect.GROUP, Dialect.DOUBLE)

    @property
    def turn(self) -> int:
        """How far the count of a parameter is ahead of that of its predecessor in the group's order."""
        return 2 if self is Dialect.DOUBLE else 0

    @property
    def raw_eps(self) -> bool:
        """Whether Adam's eps is added to the root of the uncorrected second moment: the versions that count twice do that."""
        return self is Dialect.DOUBLE


class Tally(NamedTuple):
    """The counts of a group.

    counts: that of each member by path; in the dialect DOUBLE those in the bias corrections of the next update, minus 1. steps: the
    number of updates made. extra: what an update adds to each count in addition to 1.
    """

    dialect: Dialect
    counts: Mapping[str, int]
    steps: int
    extra: int = 0


def tally(
    possible: Sequence[Dialect],
    number: int,
    group: Settings,
    members: Sequence[str],
    entries: Mapping[str, Entry],
    late: bool = False,
) -> Tally:
    """The count of each member of group `number`.

    possible: the dialects of the kind, the usual one first. late: whether a member without state has not been trained yet, so that its
    count is 0 although the group has one.

    Raises ValueError if both the group and a parameter have a count, if a group's count does not result from its parameters, and for a
    count that is missing or invalid.
    """
    dialect = _dialect(possible, number, group, list(entries.values()))
    if dialect is Dialect.NONE:
        return Tally(dialect, {path: int(bool(entries.get(path))) for path in members}, 0)
    if dialect is Dialect.PARAMETER:
        counts = {path: _own(entries.get(path) or {}, path) for path in members}
        return Tally(dialect, counts, max(counts.values(), default=0))
    total = integer(group.get("step", 0), f"param_groups[{number}]['step']")
    if dialect is Dialect.GROUP:
        if "step" not in group and (path := next((path for path in members if entries.get(path)), None)):
            raise ValueError(_countless(path))
        return Tally(dialect, {path: 0 if late and not entries.get(path) else total for path in members}, total)
    return _doubled(number, total, members, entries)


def together(number: int, counts: Sequence[int]) -> int:
    """The way back: the counter of group `number` for these counts of its parameters, without what DOUBLE adds in turn.

    Raises ValueError if the parameters have seen different numbers of gradients, which one counter cannot express.
    """
    if len(set(counts)) > 1:
        raise ValueError(
            f"the parameters of param_groups[{number}] have seen {sorted(set(counts))} gradients, and the group has one count: give every "
            "parameter a gradient at each step"
        )
    return counts[0]


def integer(value: Any, name: str) -> int:
    """A count as an int. Raises ValueError for anything that is not a count."""
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
        array = np.asarray(value)
        value = array.reshape(-1)[0].item() if array.size == 1 else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1 << 31 or value != int(value):
        raise ValueError(f"the optimizer's {name} is {value!r}, which is not a count: use an earlier checkpoint")
    return int(value)


def _dialect(possible: Sequence[Dialect], number: int, group: Settings, entries: Sequence[Entry]) -> Dialect:
    """The usual dialect, or if versions of the class differ, the one that the place of the count indicates."""
    if len(possible) == 1:
        return possible[0]
    beside = [integer(entry["step"], "step") for entry in entries if "step" in entry]
    if "step" not in group:
        return possible[0]
    if any(beside):
        raise ValueError(
            f"the optimizer counts {group['step']} steps in param_groups[{number}] and {max(beside)} in the state of a parameter: "
            "save it from one version of geoopt"
        )
    return Dialect.DOUBLE if beside else Dialect.GROUP


def _doubled(number: int, total: int, members: Sequence[str], entries: Mapping[str, Entry]) -> Tally:
    active = [path for path in members if entries.get(path)] or list(members)
    if len(active) < len(members):
        idle = next(path for path in members if path not in active)
        raise ValueError(
            f"parameter {idle} has no state in param_groups[{number}], whose count goes up twice for each parameter with state: "
            "leave it out of the group's params, so that it is not trained"
        )
    turn = Dialect.DOUBLE.turn * len(active)
    if total % turn:
        raise ValueError(
            f"param_groups[{number}]['step'] is {total}, not a multiple of {turn} (twice its {len(active)} parameters with "
            "state): reload and save it with geoopt 0.5.1"
        )
    return Tally(Dialect.DOUBLE, {path: total + place * Dialect.DOUBLE.turn for place, path in enumerate(active)}, total // turn, turn - 1)


def _own(entry: Entry, path: str) -> int:
    if entry and "step" not in entry:
        raise ValueError(_countless(path))
    return integer(entry.get("step", 0), f"step of {path}")


def _countless(path: str) -> str:
    return f"the state of {path} has no step, and neither does its group, so the bias correction is unknown; save optimizer.state_dict()"
