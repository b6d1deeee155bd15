"""The scheduler of a file: how far it has come, and whether the rates can follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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

    problem: why the learning rates cannot follow it, and what to pass; empty if they do. found_by: what says `per_step`, in words. assumed:
    what the file leaves open, and how it was taken, in words.
    """

    state: Document
    name: str
    per_step: int | None
    problem: str = ""
    found_by: str = ""
    assumed: str = ""

    @property
    def done(self) -> int:
        """The number of steps that it has made; for a chain, the largest of its parts'."""
        if "_schedulers" in self.state and "last_epoch" not in self.state:
            return max((int(inner.get("last_epoch", 0)) for inner in self.state["_schedulers"]), default=0)
        return int(self.state.get("last_epoch", 0))

    def reported(self) -> Document:
        """For the report."""
        told = {"name": self.name, "steps": self.done, "updates_per_step": self.per_step, "rates_follow": not self.problem}
        if self.problem:
            return {**told, "problem": self.problem}
        more = {"updates_per_step_by": self.found_by, "assumed": self.assumed}
        return told | {key: words for key, words in more.items() if words}


def scheduled(raw: object, updates: int, given: int | None) -> Scheduled:
    """The scheduler of an optimizer that has made so many updates. `given`: the updates between two of its steps.

    If they are not given they follow from the counts: updates made divided by steps made, if that is a whole number. Where a file that was
    saved within an epoch can have the same counts, that is said to be assumed.
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
    done = found.done
    if row.metric:
        return replace(found, per_step=int(given or 1))
    if given is not None:
        return replace(found, per_step=int(given), found_by="option updates_per_step", assumed=_phase(updates, done, int(given)))
    if done and updates and updates % done == 0:
        each = updates // done
        words = f"{_times(updates, 'update')} in {_times(done, 'step')} of the scheduler"
        return replace(found, per_step=each, found_by=words, assumed=_guess(updates, done, each, words))
    counted = f"{updates} updates" if updates else "no updates that the optimizer has counted"
    return Scheduled(
        state, row.name, None,
        f"{done} steps of the scheduler and {counted} do not show how many updates lie between two steps: give updates_per_step= "
        "(--updates-per-step), which is 1 or the number of batches in an epoch",
    )  # fmt: skip


def _guess(updates: int, done: int, each: int, words: str) -> str:
    """That so many updates a step are a guess, where the counts of a file saved within an epoch, or between an epoch's last update and the
    scheduler's step, can be those of other numbers; else nothing."""
    if updates == done:
        return ""  # one step after each update: no other number of updates gives these counts
    least = -(-updates // (done + 1))  # done steps of each full epoch, and at most one epoch more
    most = max(each, -(-updates // (done - 1)) - 1) if done > 1 else None  # a step at the beginning of each epoch
    if (least, most) == (each, each):
        return ""
    room = f"from {least} to {most}" if most else f"{least} or more"
    return (
        f"{_times(each, 'update')} per step of the scheduler, by {words}, as a file has it that was saved at the end of an epoch and after "
        f"its step; saved elsewhere it may be {room}: give updates_per_step= (--updates-per-step), 1 or the number of batches in an epoch"
    )


def _phase(updates: int, done: int, each: int) -> str:
    """That the file was saved within an epoch, and when the next step comes; nothing where it was saved at an epoch's end."""
    beyond = updates - done * each
    if not updates or beyond == 0:
        return ""
    where = f"{_times(abs(beyond), 'update')} {'after' if beyond > 0 else 'before'} the end of {_times(done, 'step')} of {each}"
    going = f", where a run in torch that goes on in the middle of its epoch has it after {each - beyond}" if 0 < beyond < each else ""
    return (
        f"the file was saved after {_times(updates, 'update')}, {where}: an epoch begins with the next update, so the scheduler's next "
        f"step comes after {each} updates{going}"
    )


def _times(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


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
