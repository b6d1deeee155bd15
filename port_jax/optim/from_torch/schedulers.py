"""The table of torch's schedulers: from a configuration or `scheduler.state_dict()` to the rate and momentum of a parameter group."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from port_jax.optim import schedules
from port_jax.optim.from_torch import momentum_cycles
from port_jax.optim.from_torch.group_rates import GroupSchedule, Lambdas, Told, taken
from port_jax.optim.reduce_on_plateau import ReduceOnPlateau
from port_jax.optim.schedules import Schedule

__all__ = ["SCHEDULERS", "Scheduler", "check_rate", "group_schedule", "scheduler_of"]

Follow = Callable[[Told], GroupSchedule]
BESIDE = {"T_i", "T_cur", "lr_lambdas"}
"""In the states of schedulers, and no arguments: the position of warm restarts, which follows from the steps made, and empty functions."""


@dataclass(frozen=True, eq=False)
class Scheduler:
    """A scheduler class.

    telling: the settings by which a state_dict, which does not name its class, is recognised if it has no others but the common ones.
    follow: the schedule of a group. metric: whether it steps by a metric, which the transformation's update then takes as `value`.
    """

    name: str
    telling: frozenset[str]
    follow: Follow
    metric: bool = False


def group_schedule(
    settings: Mapping[str, Any] | None,
    group: Mapping[str, Any],
    index: int = 0,
    lr_lambda: Lambdas = None,
    num_steps: int | None = None,
) -> GroupSchedule:
    """The schedule of one parameter group under the scheduler's settings.

    settings: `scheduler.state_dict()`, or torch's arguments with the class's "name"; None for a constant rate. group: the group's
    settings. index: the group's number. lr_lambda: LambdaLR's function, or one per group; a state_dict has no functions.
    num_steps: the number of scheduler steps of the whole run, if `schedules` needs it.

    Errors: ValueError for an unknown scheduler, a setting that it does not have, and whatever `schedules` refuses.
    """
    if settings is None:
        return GroupSchedule(None)
    return scheduler_of(settings).follow(Told(settings, group, index, lr_lambda, num_steps))


def scheduler_of(settings: Mapping[str, Any]) -> Scheduler:
    """The scheduler's row, by its "name" or by its settings. Raises ValueError if there is none."""
    if "name" in settings:
        found = next((row for row in SCHEDULERS if row.name == settings["name"]), None)
        if found is None:
            raise ValueError(f"scheduler {settings['name']!r} is not translated; known are {_known()}")
        return found
    for row in SCHEDULERS:
        if row.telling <= settings.keys():
            return row
    shown = sorted(key for key in settings if not key.startswith("_"))
    raise ValueError(f"a scheduler with the settings {shown} is not one of {_known()}; add its class as 'name' if it is")


def check_rate(settings: Mapping[str, Any] | None, schedule: GroupSchedule, group: Mapping[str, Any], index: int) -> None:
    """Raises ValueError if the group's lr is not the one of the scheduler's state after the steps that it has made.

    A configuration has made no steps and is not compared.
    """
    if settings is None or not {"base_lrs", "_schedulers"} & settings.keys() or not isinstance(schedule.rate, Schedule):
        return
    lr, expected = float(np.asarray(group["lr"])), schedule.rate.exactly(schedule.done)
    if math.isclose(lr, expected, rel_tol=1e-6, abs_tol=1e-9 * abs(schedule.rate.base)):
        return
    if "_milestones" in settings and any("_schedulers" in part for part in settings["_schedulers"]):
        raise ValueError(
            f"param_groups[{index}]['lr'] is {lr:.9g}, and {expected:.9g} after {schedule.done} steps of a SequentialLR whose parts "
            "consist of others: torch's begins with a ChainedScheduler by an ordinary step, so that an ExponentialLR in it is one step "
            "ahead of its own count. This is not followed; leave scheduler_state out, and give the optimizer a schedule"
        )
    raise ValueError(
        f"param_groups[{index}]['lr'] is {lr:.9g}, its scheduler's after {schedule.done} steps is "
        f"{expected:.9g}: it was changed by hand, or the state is another scheduler's (if it has a function, possibly that "
        "of MultiplicativeLR: add 'name' to scheduler_state); set it, or leave scheduler_state out"
    )


def _multi_step(told: Told) -> GroupSchedule:
    """At a milestone torch multiplies the rate that the group has then, so that one drop which a program has taken back stays so: in
    HyperbolicCV's script the points skip the first. Of a state, the base is the one that leads to the group's rate, if that is such a rate.
    """
    given = taken("MultiStepLR", told.settings, ("milestones", "gamma"))
    marks = given["milestones"]
    given["milestones"] = [int(m) for m, n in marks.items() for _ in range(n)] if isinstance(marks, Mapping) else marks
    rate = schedules.multi_step_lr(told.base, **given)
    gamma, lr = float(given.get("gamma", 0.1)), float(np.asarray(told.group["lr"]))
    if "base_lrs" in told.settings and gamma > 0 and not math.isclose(rate.exactly(told.done), lr, rel_tol=1e-6):
        bases = (told.base / gamma**drops for drops in range(1, 1 + sum(mark <= told.done for mark in given["milestones"])))
        skipped = (schedules.multi_step_lr(base, **given) for base in bases)
        rate = next((each for each in skipped if math.isclose(each.exactly(told.done), lr, rel_tol=1e-6)), rate)
    return GroupSchedule(rate, done=told.done)


def _lambda(told: Told) -> GroupSchedule:
    if told.function is None:
        raise ValueError("a LambdaLR's function is not in its state: give lr_lambda=")
    return GroupSchedule(schedules.lambda_lr(told.base, told.function, told.num_steps), done=told.done)


def _multiplicative(told: Told) -> GroupSchedule:
    if told.function is None or told.num_steps is None:
        raise ValueError("neither a MultiplicativeLR's function nor its number of steps is in its state: give lr_lambda= and num_steps=")
    return GroupSchedule(schedules.multiplicative_lr(told.base, told.function, told.num_steps), done=told.done)


def _plateau(told: Told) -> GroupSchedule:
    arguments = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps")
    kept = {"min_lrs", "default_min_lr", "mode_worse", "best", "cooldown_counter", "num_bad_epochs"}
    given = taken("ReduceLROnPlateau", told.settings, arguments, kept)
    floor = told.settings.get("min_lrs", given.get("min_lr", 0.0))
    given["min_lr"] = floor[told.index] if isinstance(floor, Sequence) else floor
    rate = ReduceOnPlateau(float(np.asarray(told.group["lr"])), **given)
    begun = rate.init()
    if "num_bad_epochs" in told.settings:
        begun = rate.resumed(rate.lr, told.settings["best"], told.settings["num_bad_epochs"], told.settings["cooldown_counter"])
    return GroupSchedule(rate, plateau=begun)


def _averaging(told: Told) -> GroupSchedule:
    """SWALR goes on from the rate that the group has, which another scheduler may have led to before."""
    given = taken("SWALR", told.settings, ("swa_lr", "anneal_epochs", "anneal_strategy"))
    end = given.pop("swa_lr", told.group.get("swa_lr"))
    if end is None:
        raise ValueError(
            f"SWALR has no swa_lr in param_groups[{told.index}]: the state is another optimizer's, or scheduler_state lacks it"
        )
    end = float(np.asarray(end[told.index] if isinstance(end, Sequence) else end))
    if "_anneal_strategy" in told.settings:
        given["anneal_strategy"] = told.settings["_anneal_strategy"]
    left = schedules.swa_lr(1.0, 0.0, **given).exactly(told.done)
    lr = float(np.asarray(told.group["lr"]))
    begun = end + (lr - end) / left if "base_lrs" in told.settings and left else told.base
    return GroupSchedule(schedules.swa_lr(begun, end, **given), done=told.done)


class _Parts(NamedTuple):
    schedules: list[Schedule]
    done: list[int]


def _parts(told: Told, name: str) -> _Parts:
    inner = told.settings["_schedulers"] if "_schedulers" in told.settings else told.settings["schedulers"]
    found = [scheduler_of(each).follow(told._replace(settings=each)) for each in inner]
    rates = [each.rate for each in found if isinstance(each.rate, Schedule)]
    if len(rates) < len(found) or any(each.momentum for each in found):
        raise ValueError(f"{name} of a scheduler that takes a metric or moves the momentum is not translated")
    return _Parts(rates, [each.done for each in found])


def _sequential(told: Told) -> GroupSchedule:
    parts = _parts(told, "SequentialLR").schedules
    milestones = told.settings["_milestones"] if "_milestones" in told.settings else told.settings["milestones"]
    return GroupSchedule(schedules.sequential_lr(parts, milestones), done=told.done)


def _chained(told: Told) -> GroupSchedule:
    parts, done = _parts(told, "ChainedScheduler")
    length = None if all(part.proportional for part in parts) else told.num_steps
    return GroupSchedule(schedules.chained_scheduler(parts, length), done=max(done))


def _closed(name: str, telling: str, make: Callable[..., Schedule], *arguments: str) -> Scheduler:
    """A scheduler that is one function of `schedules`, with torch's arguments."""

    def follow(told: Told) -> GroupSchedule:
        return GroupSchedule(make(told.base, **taken(name, told.settings, arguments, BESIDE)), done=told.done)

    return _row(name, telling, follow)


def _row(name: str, telling: str, follow: Follow, metric: bool = False) -> Scheduler:
    return Scheduler(name, frozenset(telling.split()), follow, metric)


SCHEDULERS = (
    _row("ReduceLROnPlateau", "patience num_bad_epochs", _plateau, metric=True),
    _row("SWALR", "anneal_epochs", _averaging),
    _row("OneCycleLR", "total_steps _schedule_phases", momentum_cycles.one_cycle),
    _row("SequentialLR", "_schedulers _milestones", _sequential),
    _row("ChainedScheduler", "_schedulers", _chained),
    _row("CyclicLR", "total_size step_ratio", momentum_cycles.cyclic),
    _closed("LinearWarmupCosineDecayLR", "tsteps wsteps", schedules.linear_warmup_cosine_lr, "tsteps", "wsteps"),
    _row("LambdaLR", "lr_lambdas", _lambda),
    _row("MultiplicativeLR", "lr_lambdas", _multiplicative),
    _closed("CosineAnnealingWarmRestarts", "T_0 T_mult", schedules.cosine_annealing_warm_restarts, "T_0", "T_mult", "eta_min"),
    _closed("CosineAnnealingLR", "T_max", schedules.cosine_annealing_lr, "T_max", "eta_min"),
    _closed("StepLR", "step_size gamma", schedules.step_lr, "step_size", "gamma"),
    _row("MultiStepLR", "milestones gamma", _multi_step),
    _closed("LinearLR", "start_factor end_factor", schedules.linear_lr, "start_factor", "end_factor", "total_iters"),
    _closed("PolynomialLR", "total_iters power", schedules.polynomial_lr, "total_iters", "power"),
    _closed("ConstantLR", "factor total_iters", schedules.constant_lr, "factor", "total_iters"),
    _closed("ExponentialLR", "gamma", schedules.exponential_lr, "gamma"),
)
"""If the settings fit several rows, the first is meant: a class comes before those whose settings it has, too."""


def _known() -> str:
    return ", ".join(row.name for row in SCHEDULERS)
