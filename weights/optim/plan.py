"""How a file's optimizer became a transformation: enough to build it again and to write its state back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.files.tensors import Tensor
from weights.mapping.entries import Entry

COLLECTION = "params/"
REMEDY = "The class is given by --optimizer-class (optimizer=); without the state: --no-optimizer (optimizer=False)"
Manifolds = Callable[[Any], Any] | None


@dataclass(frozen=True)
class Plan:
    """JSON-able."""

    table: str
    """The class, a key of `port_jax.optim.torch_optimizers.KINDS`."""
    dialects: list[str]
    keys: dict[int, str]
    listed: list[list[int]]
    parts: list[list[str]]
    """The paths of each group that move."""
    extras: list[int]
    still: list[str] = field(default_factory=list)
    """Trained parameters that have no state where others have: they were frozen, and get no update."""
    source: str = ""
    groups: list[dict[str, Any]] = field(default_factory=list)
    """The settings of each group, and what a scheduler keeps there."""
    axes: dict[str, int] = field(default_factory=dict)
    """By path, where the last axis of torch's layout is, if it is not the last."""
    scheduler: dict[str, Any] | None = None
    """The scheduler's state that the rates follow; None where they stay."""
    per_step: int = 1
    """Updates in a step of the scheduler."""
    ahead: int = 0
    """Updates that the schedules are ahead of the state's step."""
    timing: dict[str, Any] | None = None
    """What the report says of the file's scheduler; None without one."""


@dataclass(frozen=True)
class Choice:
    """What is known of an optimizer's class before its numbers are looked at.

    said: what the configuration calls it. code: whose code the model is. name: the class, where the caller gives it.
    riemannian: whether it moves points on manifolds.
    """

    said: str | None
    code: str | None
    name: str | None
    riemannian: bool


def choose(raw: Mapping, said: object, code: str | None = None, name: str | None = None) -> Choice:
    """The choice by a section of a file. said: a configuration's name, or {"name": ...}. code: whose code the architecture is.

    Unmatched where the section's groups are no dictionaries of settings.
    """
    from port_jax.optim.torch_optimizers import KINDS

    groups = raw["param_groups"]
    if not groups or not all(isinstance(group, dict) for group in groups):
        raise Unmatched("the optimizer has no groups of settings", "Save optimizer.state_dict()")
    said = said.get("name") if isinstance(said, Mapping) else said
    said = said if isinstance(said, str) else None
    if name is not None and name in KINDS:
        return Choice(said, code, name, KINDS[name].riemannian)
    keys = set(groups[0])
    telling = {"stabilize", "rgrad", "line_search_method"} & keys or ("step" in keys and "betas" in keys)
    telling = telling or (code == "murp" and not {"betas", "momentum"} & keys)  # its own has no setting but the rate
    return Choice(said, code, name, bool(telling))


def build(plan: Plan, params: dict, manifolds: Manifolds) -> tuple[Any, Any]:
    """The transformation of a plan, and the shapes of its state."""
    import jax

    from port_jax.optim import torch_groups, torch_optimizers, torch_schedulers

    parts = []
    for number, (group, paths, extra, dialect) in enumerate(zip(plan.groups, plan.parts, plan.extras, plan.dialects)):
        settings = torch_optimizers.settled(plan.table, group, dialect=dialect, axes=plan.axes)
        planned = torch_schedulers.plan(plan.scheduler, {**settings, **group}, number)
        parts.append(torch_groups.Part(plan.table, settings, tuple(paths), planned, extra))
    flat = not torch_optimizers.KINDS[plan.table].riemannian
    transformation = torch_groups.transformation(parts, params, None if flat else manifolds, plan.per_step, plan.ahead)
    return transformation, jax.eval_shape(transformation.init, params)


def path_of(entry: Entry) -> str:
    """The parameter's path under "params"."""
    assert entry.path is not None
    return entry.path.removeprefix(COLLECTION)


def forward_shape(entry: Entry) -> tuple[int, ...]:
    """The shape of a parameter here."""
    return entry.layout.forward(np.broadcast_to(np.empty((), np.int8), entry.shape)).shape


def last_axis(entry: Entry) -> int | None:
    """Where the last axis of torch's layout is here: None where it is the last, too, or where it makes no difference.

    Unmatched for a layout that takes it apart.
    """
    if not entry.shape or entry.shape[-1] == 1:
        return None
    places = entry.layout.forward(np.broadcast_to(np.arange(entry.shape[-1]), entry.shape))
    for axis in reversed(range(places.ndim)):
        if places.shape[axis] == entry.shape[-1]:
            shape = [1] * places.ndim
            shape[axis] = -1
            if (places == np.arange(entry.shape[-1]).reshape(shape)).all():
                return None if axis == places.ndim - 1 else axis
    raise Unmatched(f"{entry.key!r} ({entry.layout.name}) has no axis for the last one of torch, along which its optimizer sums", REMEDY)


def begun(state: Mapping[str, Any] | None) -> bool:
    """Whether a parameter has been trained: torch's Adagrad keeps a state of every one from the start."""
    return bool(state) and not ("sum" in state and plain(state.get("step", 0)) == 0)


def plain(value: Any) -> Any:
    """A setting as JSON has it; tensors of one number as that number."""
    if isinstance(value, Tensor):
        return value.array().reshape(-1)[0].item() if value.numel == 1 else value.array().tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
