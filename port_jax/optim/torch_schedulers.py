"""What the settings of a torch scheduler mean: from a configuration or from `scheduler.state_dict()` to a schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from port_jax.optim import schedules
from port_jax.optim.reduce_on_plateau import PlateauState, ReduceOnPlateau
from port_jax.optim.schedules import Schedule

# A state_dict has no class name: these settings, and no others beside the common ones, tell it. The order matters only
# in that a class comes before those whose settings it has too.
_TELLING = {
    "ReduceLROnPlateau": {"patience", "num_bad_epochs"},
    "OneCycleLR": {"total_steps", "_schedule_phases"},
    "SequentialLR": {"_schedulers", "_milestones"},
    "ChainedScheduler": {"_schedulers"},
    "CyclicLR": {"total_size", "step_ratio"},
    "LambdaLR": {"lr_lambdas"},
    "MultiplicativeLR": {"lr_lambdas"},
    "CosineAnnealingWarmRestarts": {"T_0", "T_mult"},
    "CosineAnnealingLR": {"T_max"},
    "StepLR": {"step_size", "gamma"},
    "MultiStepLR": {"milestones", "gamma"},
    "LinearLR": {"start_factor", "end_factor"},
    "PolynomialLR": {"total_iters", "power"},
    "ConstantLR": {"factor", "total_iters"},
    "ExponentialLR": {"gamma"},
}
_FOREIGN = {"SWALR": {"anneal_epochs"}}
_COMMON = {"name", "base_lrs", "last_epoch", "verbose"}
_PLAIN: dict[str, tuple[Callable[..., Schedule], tuple[str, ...]]] = {
    "StepLR": (schedules.step_lr, ("step_size", "gamma")),
    "ExponentialLR": (schedules.exponential_lr, ("gamma",)),
    "LinearLR": (schedules.linear_lr, ("start_factor", "end_factor", "total_iters")),
    "ConstantLR": (schedules.constant_lr, ("factor", "total_iters")),
    "PolynomialLR": (schedules.polynomial_lr, ("total_iters", "power")),
    "CosineAnnealingLR": (schedules.cosine_annealing_lr, ("T_max", "eta_min")),
    "CosineAnnealingWarmRestarts": (schedules.cosine_annealing_warm_restarts, ("T_0", "T_mult", "eta_min")),
}


class Planned(NamedTuple):
    """What is planned for one group: the rate (None: the group's lr stays), the momentum if it moves, the scheduler
    steps made, and for a rate that follows a metric its state."""

    rate: Schedule | ReduceOnPlateau | None
    momentum: Schedule | None = None
    done: int = 0
    plateau: PlateauState | None = None


def plan(
    settings: Mapping[str, Any] | None,
    group: Mapping[str, Any],
    index: int = 0,
    lr_lambda: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
    num_steps: int | None = None,
) -> Planned:
    """The schedule that the scheduler's settings give to one parameter group.

    settings: `scheduler.state_dict()`, or torch's arguments with the class's "name"; None: the rate stays. group: the group's settings.
    index: the group's number. lr_lambda: LambdaLR's function, or one a group; a state_dict does not hold functions.
    num_steps: the scheduler steps of the whole run, where `schedules` asks for it.

    Errors: ValueError for an unknown scheduler, a setting it does not have, and what `schedules` refuses.
    """
    if settings is None:
        return Planned(None)
    name = recognised(settings)
    base = settings["base_lrs"][index] if "base_lrs" in settings else group.get("initial_lr", group["lr"])
    base = float(np.asarray(base))
    done = int(settings.get("last_epoch", 0))
    if name in _PLAIN:
        make, arguments = _PLAIN[name]
        return Planned(make(base, **_taken(name, settings, arguments, {"T_i", "T_cur"})), done=done)
    if name == "MultiStepLR":
        given = _taken(name, settings, ("milestones", "gamma"))
        marks = given["milestones"]
        given["milestones"] = [int(m) for m, n in marks.items() for _ in range(n)] if isinstance(marks, Mapping) else marks
        return Planned(schedules.multi_step_lr(base, **given), done=done)
    if name == "LambdaLR":
        chosen = lr_lambda[index] if isinstance(lr_lambda, Sequence) else lr_lambda
        if chosen is None:
            raise ValueError("a LambdaLR's function is not in its state: give lr_lambda=")
        return Planned(schedules.lambda_lr(base, chosen, num_steps), done=done)
    if name == "MultiplicativeLR":
        chosen = lr_lambda[index] if isinstance(lr_lambda, Sequence) else lr_lambda
        if chosen is None or num_steps is None:
            raise ValueError("a MultiplicativeLR's function is not in its state, nor how long it runs: give lr_lambda= and num_steps=")
        return Planned(schedules.multiplicative_lr(base, chosen, num_steps), done=done)
    if name == "CyclicLR":
        return _cyclic(settings, index, done)
    if name == "OneCycleLR":
        return _one_cycle(settings, group, index, done)
    if name == "ReduceLROnPlateau":
        return _plateau(settings, group, index)
    inner = settings["_schedulers"] if "_schedulers" in settings else settings["schedulers"]
    plans = [plan(each, group, index, lr_lambda, num_steps) for each in inner]
    parts = [each.rate for each in plans if isinstance(each.rate, Schedule)]
    if len(parts) < len(plans) or any(each.momentum for each in plans):
        raise ValueError(f"{name} of a scheduler that takes a metric or moves the momentum is not translated")
    if name == "SequentialLR":
        milestones = settings["_milestones"] if "_milestones" in settings else settings["milestones"]
        return Planned(schedules.sequential_lr(parts, milestones), done=done)
    if all(part.proportional for part in parts):
        num_steps = None
    return Planned(schedules.chained_scheduler(parts, num_steps), done=max(each.done for each in plans))


def recognised(settings: Mapping[str, Any]) -> str:
    """The scheduler's class: its "name", or what its settings tell."""
    known = ", ".join(_TELLING)
    if "name" in settings:
        if settings["name"] not in _TELLING:
            raise ValueError(f"scheduler {settings['name']!r} is not translated; known are {known}")
        return settings["name"]
    foreign = any(telling <= settings.keys() for telling in _FOREIGN.values())
    for name, telling in _TELLING.items():
        if telling <= settings.keys() and not foreign:
            return name
    shown = sorted(key for key in settings if not key.startswith("_"))
    raise ValueError(f"a scheduler with the settings {shown} is not one of {known}; add its class as 'name' if it is")


def _taken(name: str, settings: Mapping[str, Any], arguments: Sequence[str], beside: set[str] | None = None) -> dict[str, Any]:
    """The arguments among the settings; what is neither one of them nor kept by torch for itself is an error."""
    unknown = {key for key in settings if not key.startswith("_") and key not in _COMMON | set(arguments) | (beside or set())}
    if unknown:
        raise ValueError(f"{name} has no setting {', '.join(sorted(unknown))}; it has {', '.join(arguments)}")
    return {key: settings[key] for key in arguments if key in settings}


def _one_cycle(settings: Mapping[str, Any], group: Mapping[str, Any], index: int, done: int) -> Planned:
    momenta = {key: group[key] for key in ("base_momentum", "max_momentum") if key in group}
    if "_schedule_phases" in settings:
        phases, total = settings["_schedule_phases"], settings["total_steps"]
        strategy = settings.get("_anneal_func_type", settings.get("anneal_strategy", "cos"))
        shape = {
            "pct_start": (phases[0]["end_step"] + 1) / total,
            "anneal_strategy": strategy,
            "three_phase": len(phases) == 3,
        }
        top, start = group["max_lr"], group["initial_lr"]
        factors = {"div_factor": top / start, "final_div_factor": start / group["min_lr"]}
    else:
        factors = ("div_factor", "final_div_factor")
        shape = ("pct_start", "anneal_strategy", "three_phase")
        momenta = ("base_momentum", "max_momentum")
        arguments = ("max_lr", "total_steps", "cycle_momentum", *factors, *shape, *momenta)
        given = _taken("OneCycleLR", settings, (*arguments, "epochs", "steps_per_epoch"))
        factors, shape, momenta = ({k: given[k] for k in keys if k in given} for keys in (factors, shape, momenta))
        top = given["max_lr"][index] if isinstance(given["max_lr"], Sequence) else given["max_lr"]
        total = given.get("total_steps") or given["epochs"] * given["steps_per_epoch"]
    rate = schedules.one_cycle_lr(top, total, **shape, **factors)
    cycled = settings.get("cycle_momentum", True)
    return Planned(rate, schedules.one_cycle_momentum(total, **shape, **momenta) if cycled else None, done)


def _cyclic(settings: Mapping[str, Any], index: int, done: int) -> Planned:
    def of_group(name: str, default: float | None = None) -> Any:
        value = settings.get(f"{name}s", settings.get(name, default))
        return value[index] if isinstance(value, Sequence) else value

    if settings.get("scale_fn") or settings.get("_scale_fn_custom"):
        raise ValueError("a CyclicLR with a scale_fn, which no state holds, is not translated: write it as a LambdaLR and give lr_lambda=")
    if "total_size" in settings:
        up = settings["total_size"] * settings["step_ratio"]
        lengths = {"step_size_up": round(up, 6), "step_size_down": round(settings["total_size"] - up, 6)}
    else:
        arguments = (
            "base_lr",
            "max_lr",
            "step_size_up",
            "step_size_down",
            "mode",
            "gamma",
            "cycle_momentum",
            "base_momentum",
            "max_momentum",
        )
        given = _taken("CyclicLR", settings, arguments)
        lengths = {key: given[key] for key in ("step_size_up", "step_size_down") if key in given}
    shape = {**lengths, **{key: settings[key] for key in ("mode", "gamma") if key in settings}}
    rate = schedules.cyclic_lr(of_group("base_lr"), of_group("max_lr"), **shape)
    if not settings.get("cycle_momentum", True):
        return Planned(rate, done=done)
    return Planned(rate, schedules.cyclic_momentum(of_group("base_momentum", 0.8), of_group("max_momentum", 0.9), **shape), done)


def _plateau(settings: Mapping[str, Any], group: Mapping[str, Any], index: int) -> Planned:
    arguments = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps")
    kept = {"min_lrs", "default_min_lr", "mode_worse", "best", "cooldown_counter", "num_bad_epochs"}
    given = _taken("ReduceLROnPlateau", settings, arguments, kept)
    floor = settings.get("min_lrs", given.get("min_lr", 0.0))
    given["min_lr"] = floor[index] if isinstance(floor, Sequence) else floor
    rate = ReduceOnPlateau(float(np.asarray(group["lr"])), **given)
    begun = rate.init()
    if "num_bad_epochs" in settings:
        begun = rate.resumed(rate.lr, settings["best"], settings["num_bad_epochs"], settings["cooldown_counter"])
    return Planned(rate, plateau=begun)


def check_rate(planned: Planned, group: Mapping[str, Any], index: int) -> None:
    """Raises ValueError where the group's lr is not the schedule's at the steps it has made."""
    if isinstance(planned.rate, Schedule):
        lr, expected = float(np.asarray(group["lr"])), planned.rate.exactly(planned.done)
        if not math.isclose(lr, expected, rel_tol=1e-6, abs_tol=1e-9 * abs(planned.rate.base)):
            raise ValueError(
                f"param_groups[{index}]['lr'] is {lr:.9g}, its scheduler's after {planned.done} steps is "
                f"{expected:.9g}: changed by hand, or another scheduler's state (with a function: MultiplicativeLR's, say it by "
                "'name' in scheduler_state); set it, or leave scheduler_state out"
            )
