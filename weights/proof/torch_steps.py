"""The torch optimizer and scheduler that `verify` steps with: the file's own at its state, or a fresh one. Needs torch when called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from weights.checkpoint import Checkpoint
from weights.files.tensors import Tensor
from weights.optim.plan import Plan
from weights.types import Document, TorchOptimizer, TorchTensor

METRIC = 1e9
"""The metric that schedulers are given, on both sides."""


def class_of(plan: Plan) -> type[TorchOptimizer] | None:
    """The torch class that continues a file's state; None for one that takes sparse gradients or several evaluations a step."""
    from reference_torch.optim.from_torch import repositories

    return repositories.of(plan.table, plan.dialects)


def fresh(parameters: Sequence[TorchTensor], rate: float) -> TorchOptimizer:
    """A RiemannianAdam without state."""
    import geoopt

    return geoopt.optim.RiemannianAdam(parameters, lr=rate)


def resumed(checkpoint: Checkpoint, raw: Document, found: Mapping[str, TorchTensor]) -> tuple[TorchOptimizer, Callable[[int], None] | None]:
    """The file's optimizer over the parameters `found` by key, in its groups and with its state `raw`; and what its scheduler does
    after each step, numbered from 0, where the rates follow one.
    """
    import geoopt

    plan = checkpoint.plan
    assert plan is not None
    for entry in checkpoint.entries:
        if entry.role == "parameter" and str(entry.path).removeprefix("params/") in plan.still:
            found[entry.key].requires_grad_(False)
    kind = class_of(plan)
    assert kind is not None
    optimizer = kind([{"params": [found[plan.keys[i]] for i in listed]} for listed in plan.listed], lr=1.0)
    groups, states = [], {}
    for new, old, listed in zip(optimizer.state_dict()["param_groups"], plan.groups, plan.listed, strict=True):
        groups.append({**new, **old, "params": new["params"]})
        states.update({place: _plain(raw["state"][i]) for place, i in zip(new["params"], listed, strict=True) if raw["state"].get(i)})
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    if kind is geoopt.optim.RiemannianAdam:
        for state in optimizer.state.values():  # a float32 tensor after a reload, and 0.999 ** t then has 24 bits
            state["step"] = int(state["step"])
    return optimizer, _schedule(checkpoint, plan, optimizer)


def metric(plan: Plan | None) -> dict[str, float]:
    """The further arguments of the transformation's update."""
    from port_jax.optim.from_torch.schedulers import scheduler_of

    follows = plan is not None and plan.scheduler is not None and scheduler_of(plan.scheduler).metric
    return {"value": METRIC} if follows else {}


def _schedule(checkpoint: Checkpoint, plan: Plan, optimizer: TorchOptimizer) -> Callable[[int], None] | None:
    from port_jax.optim.from_torch import GroupsState
    from port_jax.optim.from_torch.schedulers import scheduler_of
    from reference_torch.optim.from_torch import schedulers

    if plan.scheduler is None:
        return None
    scheduler = schedulers.resumed(plan.scheduler, optimizer, lambda state: scheduler_of(state).name)
    told = list(metric(plan).values())
    before = int(checkpoint.opt_state.step) + (0 if isinstance(checkpoint.opt_state, GroupsState) else plan.ahead)

    def after(step: int) -> None:
        if (before + step + 1) % plan.per_step == 0:
            scheduler.step(*told)

    return after


def tensor(stored: Tensor) -> TorchTensor:
    """A tensor of a file as a tensor of torch; bfloat16, which torch does not take from numpy, becomes float32."""
    import torch

    array = np.array(stored.array())
    return torch.from_numpy(array.astype(np.float32) if array.dtype.name == "bfloat16" else array)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tensor(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


__all__ = ["class_of", "fresh", "metric", "resumed", "tensor"]
