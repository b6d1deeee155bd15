"""The scheduler of a file: how far it has come, whether the rates can follow it, and the same section after more steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.files.tensors import Tensor, from_array
from weights.optim.plan import Plan, plain

WHERE = "from_torch(..., scheduler_state=...)"


@dataclass(frozen=True)
class Scheduled:
    """A file's scheduler. state: its settings and counters. per_step: updates in one of its steps, None where nobody knows.

    problem: why the rates cannot follow it, and what to pass; empty where they do.
    """

    state: dict[str, Any]
    name: str
    per_step: int | None
    problem: str = ""

    @property
    def done(self) -> int:
        """The steps it has made."""
        return (
            int(self.state.get("last_epoch", 0)) if "_schedulers" not in self.state or "last_epoch" in self.state else _chained(self.state)
        )

    def reported(self) -> dict[str, Any]:
        """For the report."""
        told = {"name": self.name, "steps": self.done, "updates_per_step": self.per_step, "rates_follow": not self.problem}
        return told if not self.problem else {**told, "problem": self.problem}


def scheduled(raw: object, updates: int, given: int | None) -> Scheduled:
    """The scheduler beside an optimizer that has made so many updates; `given` are the updates in one of its steps.

    Where it is not given it follows from the counts: updates made over steps made, if that is a whole number.
    """
    from port_jax.optim.torch_schedulers import recognised

    if not isinstance(raw, Mapping):
        return Scheduled({}, "?", None, f"the scheduler is a {type(raw).__name__}: save scheduler.state_dict(), or pass {WHERE}")
    state = plain({key: value for key, value in raw.items() if not callable(value)})
    try:
        name = recognised(state)
    except ValueError as error:
        return Scheduled(state, "?", None, f"{error}; the rates stay as they are in the groups")
    found = Scheduled(state, name, given)
    if given is not None or name == "ReduceLROnPlateau":
        return Scheduled(state, name, given or 1)
    done = found.done
    if done and updates and updates % done == 0:
        return Scheduled(state, name, updates // done)
    counted = f"{updates} updates" if updates else "no updates that the optimizer has counted"
    return Scheduled(
        state, name, None,
        f"{done} steps of the scheduler and {counted} do not tell how many updates make a step: give updates_per_step= "
        "(--updates-per-step), 1 or the batches of an epoch",
    )  # fmt: skip


def advanced(raw: Mapping[str, Any], plan: Plan, state: Any) -> tuple[Mapping[str, Any], list[dict[str, Any]] | None]:
    """The scheduler's section after the updates that `state` has seen, and what has changed in the optimizer's groups.

    The section itself, and None, where it has not moved.
    """
    from port_jax.optim import torch_schedulers
    from port_jax.optim.schedule import Schedule
    from port_jax.optim.torch_groups import GroupsState

    if plan.scheduler is None:
        return raw, None
    plans = [torch_schedulers.plan(plan.scheduler, group, number) for number, group in enumerate(plan.groups)]
    if isinstance(state, GroupsState) and any(state.plateaus):
        return _plateau(raw, plans, state)
    step = int(np.asarray(state.step)) + (0 if isinstance(state, GroupsState) else plan.ahead)
    done = step // plan.per_step
    if done == plans[0].done:
        return raw, None
    rates = [each.rate.exactly(done) if isinstance(each.rate, Schedule) else group["lr"] for each, group in zip(plans, plan.groups)]
    changes: list[dict[str, Any]] = []
    for each, group, rate in zip(plans, plan.groups, rates):
        change: dict[str, Any] = {"lr": rate}
        if each.momentum is not None:
            momentum = each.momentum.exactly(done)
            change |= {"betas": (momentum, group["betas"][1])} if "betas" in group else {"momentum": momentum}
        changes.append(change)
    return _stepped(raw, done, rates), changes


def with_changes(groups: Sequence[Mapping[str, Any]], changes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The optimizer's groups with the scheduler's new rates, in the form that the file had them."""
    return [{**group, **{name: _like(group.get(name), value) for name, value in change.items()}} for group, change in zip(groups, changes)]


def _plateau(raw: Mapping[str, Any], plans: Sequence[Any], state: Any) -> tuple[Mapping[str, Any], list[dict[str, Any]] | None]:
    now, begun = state.plateaus[0], plans[0].plateau
    if all(np.array_equal(a, b) for a, b in zip(now, begun)):
        return raw, None
    rates = [float(each.rate) for each in state.plateaus]
    counters = {"best": float(now.best), "num_bad_epochs": int(now.bad), "cooldown_counter": int(now.cooldown), "_last_lr": rates}
    return {**raw, **{key: value for key, value in counters.items() if key in raw}}, [{"lr": rate} for rate in rates]


def _stepped(raw: Mapping[str, Any], done: int, rates: Sequence[float]) -> dict[str, Any]:
    new = dict(raw)
    if "_schedulers" in raw:
        starts = [0, *plain(raw["_milestones"])] if "_milestones" in raw else [0] * len(raw["_schedulers"])
        ends = [*starts[1:], None] if "_milestones" in raw else [None] * len(starts)
        new["_schedulers"] = [
            inner if done < start else _stepped(inner, (done if end is None else min(done, end - 1)) - start, rates)
            for inner, start, end in zip(raw["_schedulers"], starts, ends)
        ]
    if "last_epoch" in raw:
        if "_step_count" in raw:
            new["_step_count"] = raw["_step_count"] + done - max(raw["last_epoch"], 0)
        new["last_epoch"] = done
    if "_last_lr" in raw:
        new["_last_lr"] = list(rates)
    return new


def _like(old: object, value: Any) -> Any:
    if isinstance(old, Tensor):
        from weights.files.dtypes import NUMPY

        if old.dtype not in NUMPY:
            raise Unmatched(f"a setting of the optimizer is {old.dtype}", "Make it a number in torch")
        return from_array(np.asarray(value, NUMPY[old.dtype]).reshape(old.shape))
    return type(old)(value) if isinstance(old, (tuple, list)) else value


def _chained(state: Mapping[str, Any]) -> int:
    return max((int(inner.get("last_epoch", 0)) for inner in state["_schedulers"]), default=0)
