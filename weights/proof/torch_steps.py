"""The torch optimizer and scheduler that `verify` steps with: the file's own at its state, or a fresh one. Needs torch when called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weights.checkpoint import Checkpoint
from weights.errors import Unmatched
from weights.files.pickles.standins import unwrapped
from weights.files.tensors import Tensor
from weights.optim.plan import Plan
from weights.optim.several import states_of
from weights.types import Document, TorchModule, TorchOptimizer, TorchTensor

SPREAD = 4 * float(np.finfo(np.float32).eps)
"""Entries of a row that are farther apart are not one number."""
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


def resumed(reading: Checkpoint, plan: Plan, raw: Document, module: TorchModule) -> tuple[TorchOptimizer, Callable[[int], None] | None]:
    """One of the file's optimizers over its parameters of the module, which loads its section `raw` by itself; and what its scheduler does
    after each step, numbered from 0, where the rates follow one.

    Of the conversion nothing is used: the class and the scheduler are those of a new reading of the file, settings, counts and moments the
    section's own. Parameters that have no moments where others have do not move, as they did not in training.
    """
    import geoopt

    kind = class_of(plan)
    assert kind is not None
    found, keys = dict(module.named_parameters()), _keys(reading, plan, raw, module)
    for entry in reading.entries:
        if entry.role == "parameter" and str(entry.path).removeprefix("params/") in plan.still:
            found[entry.key].requires_grad_(False)
    groups = raw["param_groups"]
    optimizer = kind([{"params": [found[keys[i]] for i in group["params"]]} for group in groups], lr=1.0)
    own = [{**new, **_plain(old), "params": new["params"]} for new, old in zip(optimizer.state_dict()["param_groups"], groups, strict=True)]
    places = {i: place for new, old in zip(own, groups, strict=True) for place, i in zip(new["params"], old["params"], strict=True)}
    states = {places[i]: _plain(state) for i, state in raw["state"].items() if state}
    optimizer.load_state_dict({"state": states, "param_groups": own})
    if kind is geoopt.optim.RiemannianAdam:
        for state in optimizer.state.values():  # a float32 tensor after a reload, and 0.999 ** t then has 24 bits
            state["step"] = int(state["step"])
    return optimizer, _schedule(reading, plan, optimizer)


def _keys(reading: Checkpoint, plan: Plan, raw: Document, module: TorchModule) -> dict[int, str]:
    """The key of each index in the section's groups: by the names in them, else in the module's own order, else as groups are given, or
    as the reading divides the parameters among several optimizers.

    Raises Unmatched where the module has another number of parameters than the section.
    """
    groups = raw["param_groups"]
    listed = [i for group in groups for i in group["params"]]
    if all(isinstance(group.get("param_names"), (list, tuple)) for group in groups):
        names = [str(name).removeprefix(reading.source.prefix) for group in groups for name in group["param_names"]]
        return dict(zip(listed, names, strict=True))
    if len(groups) > 1 or plan.source == "option groups" or len(reading.plans) > 1:
        return plan.keys
    every = [name for name, _ in module.named_parameters()]
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    for names in (every, trained):
        if len(names) == len(listed):
            return dict(zip(listed, names, strict=True))
    raise Unmatched(
        f"the optimizer has {len(listed)} parameters; the torch reference of {reading.arch} has {len(every)}", "Use --level grad"
    )


def levelled(raw: Document, rows: Sequence[int], pick: Callable[..., Any]) -> Document | None:
    """A section whose second moments at these indices are, in each row, the one entry that `pick` chooses: np.min or np.max. None where
    no row has entries that differ, or where some differ by more than rounding.

    geoopt adds a number to each entry of a row, and torch's vector instructions round the last entries of an array otherwise: in a
    float32 file they may be an ulp apart, and the state in JAX has one of them. HypLL does so along any axis: the first along which they
    are that near counts, the last axis before others.
    """
    import torch

    states, found = dict(raw["state"]), False
    for index in rows:
        stored = states.get(index, {}).get("exp_avg_sq")
        if isinstance(stored, Tensor) and len(stored.shape):
            array = np.asarray(stored.array())
            for axis in reversed(range(array.ndim)):
                one = pick(array, axis=axis, keepdims=True)
                apart = float(np.max(np.abs(array - one) / np.maximum(np.abs(array), np.finfo(array.dtype).tiny), initial=0))
                if 0 < apart < SPREAD:
                    states[index] = {**states[index], "exp_avg_sq": torch.from_numpy(np.broadcast_to(one, array.shape).copy())}
                    found = True
                    break
    return {**raw, "state": states} if found else None


def metric(plans: Sequence[Plan]) -> dict[str, float]:
    """The further arguments of the transformation's update."""
    from port_jax.optim.from_torch.schedulers import scheduler_of

    follows = any(plan.scheduler is not None and scheduler_of(plan.scheduler).metric for plan in plans)
    return {"value": METRIC} if follows else {}


def _schedule(reading: Checkpoint, plan: Plan, optimizer: TorchOptimizer) -> Callable[[int], None] | None:
    from port_jax.optim.from_torch import GroupsState
    from port_jax.optim.from_torch.schedulers import scheduler_of
    from reference_torch.optim.from_torch import schedulers

    if plan.scheduler is None:
        return None
    scheduler = schedulers.resumed(plan.scheduler, optimizer, lambda state: scheduler_of(state).name)
    told = list(metric([plan]).values())
    state = states_of(reading.opt_state, tuple(each.place for each in reading.plans))[plan.place]
    before = int(state.step) + (0 if isinstance(state, GroupsState) else plan.ahead)

    def after(step: int) -> None:
        if (before + step + 1) % plan.per_step == 0:
            scheduler.step(*told)

    return after


def dense(module: TorchModule) -> None:
    """Makes a module's sparse gradients dense, as those of JAX are."""
    for parameter in module.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()


def tensor(stored: Tensor) -> TorchTensor:
    """A tensor of a file as a tensor of torch; bfloat16, which torch does not take from numpy, becomes float32."""
    import torch

    array = np.array(stored.array())
    return torch.from_numpy(array.astype(np.float32) if array.dtype.name == "bfloat16" else array)


def _plain(value: Any) -> Any:
    value = unwrapped(value)
    if isinstance(value, Tensor):
        return tensor(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


__all__ = ["class_of", "dense", "fresh", "levelled", "metric", "resumed", "tensor"]
