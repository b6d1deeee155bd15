"""A torch scheduler made again from its state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import lr_scheduler, swa_utils

from reference_torch.optim.schedules import LinearWarmupCosineDecayLR

ARGUMENTS: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 1}, "MultiStepLR": {"milestones": []}, "ExponentialLR": {"gamma": 1.0}, "LinearLR": {}, "ConstantLR": {},
    "PolynomialLR": {}, "CosineAnnealingLR": {"T_max": 1}, "CosineAnnealingWarmRestarts": {"T_0": 1}, "ReduceLROnPlateau": {},
    "LinearWarmupCosineDecayLR": {"total_steps": 2, "warmup_steps": 1},
    "OneCycleLR": {"max_lr": 1.0, "total_steps": 2, "cycle_momentum": False}, "CyclicLR": {"base_lr": 0.1, "max_lr": 1.0},
}  # fmt: skip
"""What the constructors ask for; all of it is in the state, too."""


def resumed(state: Mapping[str, Any], optimizer: torch.optim.Optimizer, name_of: Callable[[Mapping[str, Any]], str]) -> Any:
    """The scheduler of the class `name_of(state)` at this state; the optimizer's settings stay as they are.

    A state's dictionaries may have been through JSON. KeyError for a class whose state does not hold all of it (LambdaLR).
    """
    kept = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    scheduler = _made(state, optimizer, name_of)
    scheduler.load_state_dict(_mended(state))
    for group, settings in zip(optimizer.param_groups, kept, strict=True):
        for key in group.keys() - settings.keys() - {"params"}:
            del group[key]
        group.update(settings)
    return scheduler


def _made(state: Mapping[str, Any], optimizer: torch.optim.Optimizer, name_of: Callable[[Mapping[str, Any]], str]) -> Any:
    name = name_of(state)
    if "_schedulers" in state:
        parts = [_made(inner, optimizer, name_of) for inner in state["_schedulers"]]
        if "_milestones" in state:
            return lr_scheduler.SequentialLR(optimizer, parts, list(state["_milestones"]))
        return lr_scheduler.ChainedScheduler(parts)
    more = {key: state[key] for key in ("mode", "cycle_momentum") if key in state} if name == "CyclicLR" else {}
    if name == "SWALR":
        rates: Any = [group["swa_lr"] for group in optimizer.param_groups]  # its stub has one rate; it takes one for each group
        return swa_utils.SWALR(optimizer, rates, anneal_epochs=state["anneal_epochs"])
    kind: Any = LinearWarmupCosineDecayLR if name == "LinearWarmupCosineDecayLR" else getattr(lr_scheduler, name)
    return kind(optimizer, **ARGUMENTS[name], **more)


def _mended(state: Mapping[str, Any]) -> dict[str, Any]:
    new = dict(state)
    if isinstance(new.get("milestones"), Mapping):
        new["milestones"] = Counter({int(step): count for step, count in new["milestones"].items()})
    if "_schedulers" in new:
        new["_schedulers"] = [_mended(inner) for inner in new["_schedulers"]]
    return new
