"""The scheduler of a file: how far it has come, and whether the rates can follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weights.errors import shown
from weights.optim.forms import plain
from weights.types import Document

WHERE = "from_torch(..., scheduler_state=...)"


@dataclass(frozen=True)
class Timing:
    """What tells the rates how far training has come.

    scheduler: the file's section, None where it has none. updates_per_step: the updates between two steps of the scheduler, None
    where the caller does not say. updates: those made, where the file counts them apart from the optimizer.
    """

    scheduler: object = None
    updates_per_step: int | None = None
    updates: int | None = None


@dataclass(frozen=True)
class Scheduled:
    """A file's scheduler. state: its settings and counters. per_step: updates between two of its steps, None if unknown.

    problem: why the learning rates cannot follow it, and what to pass; empty if they do.
    """

    state: Document
    name: str
    per_step: int | None
    problem: str = ""

    @property
    def done(self) -> int:
        """The number of steps that it has made; for a chain, the largest of its parts'."""
        if "_schedulers" in self.state and "last_epoch" not in self.state:
            return max((int(inner.get("last_epoch", 0)) for inner in self.state["_schedulers"]), default=0)
        return int(self.state.get("last_epoch", 0))

    def reported(self) -> Document:
        """For the report."""
        told = {"name": self.name, "steps": self.done, "updates_per_step": self.per_step, "rates_follow": not self.problem}
        return told if not self.problem else {**told, "problem": self.problem}


def scheduled(raw: object, updates: int, given: int | None) -> Scheduled:
    """The scheduler of an optimizer that has made so many updates. `given`: the updates between two of its steps.

    If they are not given they follow from the counts: updates made divided by steps made, if that is a whole number.
    """
    from port_jax.optim.from_torch.schedulers import scheduler_of

    if not isinstance(raw, Mapping):
        return Scheduled({}, "?", None, f"the scheduler is a {type(raw).__name__}: save scheduler.state_dict(), or pass {WHERE}")
    state = plain({key: value for key, value in raw.items() if not callable(value)})
    if (odd := _odd_count(state)) is not None:
        return Scheduled({}, "?", None, f"the scheduler's count of steps is {odd}: save scheduler.state_dict(), or pass {WHERE}")
    try:
        row = scheduler_of(state)
    except ValueError as error:
        return Scheduled(state, "?", None, f"{error}; the learning rates stay as they are in the groups")
    found = Scheduled(state, row.name, given)
    if given is not None or row.metric:
        return Scheduled(state, row.name, given or 1)
    done = found.done
    if done and updates and updates % done == 0:
        return Scheduled(state, row.name, updates // done)
    counted = f"{updates} updates" if updates else "no updates that the optimizer has counted"
    return Scheduled(
        state, row.name, None,
        f"{done} steps of the scheduler and {counted} do not show how many updates lie between two steps: give updates_per_step= "
        "(--updates-per-step), which is 1 or the number of batches in an epoch",
    )  # fmt: skip


def _odd_count(state: object) -> str | None:
    """What stands in place of the number of steps, in a scheduler or in a part of a chain; None if every number is whole."""
    parts = state.get("_schedulers", []) if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping) or not isinstance(parts, list):
        return shown(state)
    count = state.get("last_epoch", 0)
    if type(count) is not int:
        return shown(count)
    return next((odd for part in parts if (odd := _odd_count(part)) is not None), None)


__all__ = ["WHERE", "Scheduled", "Timing", "scheduled"]
