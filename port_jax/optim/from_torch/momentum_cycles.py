"""torch's OneCycleLR and CyclicLR, which move the momentum in the opposite direction of the rate, from their settings or states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from port_jax.optim import schedules
from port_jax.optim.from_torch.group_rates import GroupSchedule, Told, taken

__all__ = ["cyclic", "one_cycle"]


def one_cycle(told: Told) -> GroupSchedule:
    """OneCycleLR: a state has the phases and, in the group, the rates; a configuration has the constructor's arguments."""
    settings, group = told.settings, told.group
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
        given = taken("OneCycleLR", settings, (*arguments, "epochs", "steps_per_epoch"))
        factors, shape, momenta = ({k: given[k] for k in keys if k in given} for keys in (factors, shape, momenta))
        top = given["max_lr"][told.index] if isinstance(given["max_lr"], Sequence) else given["max_lr"]
        total = given.get("total_steps") or given["epochs"] * given["steps_per_epoch"]
    rate = schedules.one_cycle_lr(top, total, **shape, **factors)
    cycled = settings.get("cycle_momentum", True)
    return GroupSchedule(rate, schedules.one_cycle_momentum(total, **shape, **momenta) if cycled else None, told.done)


def cyclic(told: Told) -> GroupSchedule:
    """CyclicLR. Raises ValueError if it has a function for the scale."""
    settings = told.settings

    def of_group(name: str, default: float | None = None) -> Any:
        value = settings.get(f"{name}s", settings.get(name, default))
        return value[told.index] if isinstance(value, Sequence) else value

    if settings.get("scale_fn") or settings.get("_scale_fn_custom"):
        raise ValueError("a CyclicLR with a scale_fn, which no state has, is not translated: write it as a LambdaLR and give lr_lambda=")
    if "total_size" in settings:
        up = settings["total_size"] * settings["step_ratio"]
        lengths = {"step_size_up": round(up, 6), "step_size_down": round(settings["total_size"] - up, 6)}
    else:
        shape = ("step_size_up", "step_size_down", "mode", "gamma")
        given = taken("CyclicLR", settings, ("base_lr", "max_lr", *shape, "cycle_momentum", "base_momentum", "max_momentum"))
        lengths = {key: given[key] for key in ("step_size_up", "step_size_down") if key in given}
    shape = {**lengths, **{key: settings[key] for key in ("mode", "gamma") if key in settings}}
    rate = schedules.cyclic_lr(of_group("base_lr"), of_group("max_lr"), **shape)
    if not settings.get("cycle_momentum", True):
        return GroupSchedule(rate, done=told.done)
    return GroupSchedule(rate, schedules.cyclic_momentum(of_group("base_momentum", 0.8), of_group("max_momentum", 0.9), **shape), told.done)
