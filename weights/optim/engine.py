"""A file's optimizer as an optax transformation and its state. `port_jax.optim.from_torch` is the table; here are keys and layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from weights.errors import ConversionError, Unmatched
from weights.files.tensors import Tensor
from weights.mapping.entries import Entry
from weights.optim import names, schedule
from weights.optim.plan import REMEDY, Choice, Manifolds, Plan, begun, build, choose, last_axis, path_of, plain
from weights.optim.saving import save, uneven


def load(raw: Mapping, choice: Choice, params: dict, entries: Sequence[Entry], tensors: Mapping[str, Tensor], prefix: str,
         manifolds: Manifolds, table_groups: list[list[str]] | None, given: Sequence[Sequence[str]] | None,
         scheduler: object = None, updates_per_step: int | None = None, updates: int | None = None) -> tuple[Any, Any, Plan]:  # fmt: skip
    """The transformation, its state and the plan.

    scheduler: the file's, if it has one. updates_per_step: updates in one of its steps. updates: those made, where the file says
    so and the optimizer does not count.

    Raises Unmatched, naming the key, for settings, indices and numbers that do not fit the model.
    """
    groups, states = raw["param_groups"], raw["state"]
    listed = names.indices(groups)
    keys, source = names.keys_by_index(groups, listed, entries, tensors, prefix, table_groups, given)
    if stray := [index for index in states if index not in keys]:
        raise Unmatched(f"the optimizer has state for index {stray[0]}, which is in no group", "Save optimizer.state_dict()")
    by_key = {entry.key: entry for entry in entries}
    found = {index: by_key[keys[index]] for indexes in listed for index in indexes}
    numbers = {index: _numbers(index, found[index], states.get(index) or {}) for index in found}
    settings = [plain({name: value for name, value in group.items() if name != "params" and _holds(value)}) for group in groups]
    timing = (scheduler, updates_per_step, updates)
    try:
        return _translated(choice, params, manifolds, listed, keys, found, numbers, settings, source, timing)
    except ConversionError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise Unmatched(f"the optimizer does not fit the model: {error}", REMEDY) from None


def _translated(choice: Choice, params: dict, manifolds: Manifolds, listed: list[list[int]], keys: dict[int, str],
                found: Mapping[int, Entry], numbers: Mapping[int, Mapping[str, Any]], settings: list[dict], source: str,
                timing: tuple[object, int | None, int | None]) -> tuple[Any, Any, Plan]:  # fmt: skip
    from port_jax.optim import torch_translation as torch_side
    from port_jax.optim.torch_optimizers import KINDS, keeps_buffers, settled
    from port_jax.optim.torch_recognition import recognised

    trained = [{path_of(found[i]): numbers[i] for i in indexes if found[i].role == "parameter"} for indexes in listed]
    manifolds = manifolds if choice.riemannian else None
    kind = recognised(settings, trained, torch_side.flat_paths(params, manifolds), choice.name, choice.said, choice.code)
    if KINDS[kind].riemannian and manifolds is None:
        raise ValueError(f"{kind} moves points, and no manifolds are known: give manifolds=")
    fresh = not any(begun(entry) for entry in numbers.values())
    members, still = [], []
    for group, own in zip(settings, trained, strict=True):
        kept = keeps_buffers(kind, settled(kind, group, strict=False)) and not fresh
        members.append([path for path, entry in own.items() if begun(entry) or not kept])
        still += [path for path, entry in own.items() if kept and not begun(entry)]
    axes = {path_of(e): axis for e in found.values() if e.path and (axis := _axis(kind, e)) is not None}
    own = [{path: all_[path] for path in paths} for all_, paths in zip(trained, members, strict=True)]
    made = torch_side.translated(kind, settings, members, own, last_axes=axes)
    timed = None
    if timing[0] is not None:
        timed = schedule.scheduled(timing[0], max(made.steps) or timing[2] or 0, timing[1])
        if not timed.problem:
            try:
                made = torch_side.translated(kind, settings, members, own, timed.state, last_axes=axes)
            except ValueError as error:
                timed = replace(timed, problem=f"{error}; pass what is missing to {schedule.WHERE}")
    followed = timed is not None and not timed.problem
    per_step = (timed.per_step if timed is not None and followed else None) or 1
    transformation, state = torch_side.resumed(made, params, manifolds, own, per_step)
    plan = Plan(
        kind, list(made.dialects), dict(keys), listed, [list(part.members) for part in made.parts],
        [part.extra for part in made.parts], still, source, settings, axes,
        timed.state if timed is not None and followed else None, per_step, made.ahead(per_step),
        None if timed is None else timed.reported(),
    )  # fmt: skip
    return transformation, state, plan


def _numbers(index: int, entry: Entry, state: Mapping[str, Any]) -> dict[str, Any]:
    """What the optimizer keeps beside a parameter, in the parameter's layout here; without what is None."""
    from port_jax.optim.torch_optimizers import KINDS

    known = {name for kind in KINDS.values() for name in (*kind.buffers, *kind.ignored)}
    if entry.role != "parameter":
        if not begun(state):
            return {}
        raise Unmatched(
            f"the optimizer has state for {entry.key!r}, which is fixed",
            "Set learnable_curvature in the configuration, if it was trained",
        )
    result: dict[str, Any] = {}
    for name, value in state.items():
        if name in known and isinstance(value, Tensor):
            if value.shape != entry.shape:
                raise Unmatched(f"the optimizer's {name} at index {index} has shape {value.shape}; {entry.key!r} has {entry.shape}",
                                "The order of the parameters differs: give groups=[[...]] (--groups)")  # fmt: skip
            result[name] = np.array(entry.layout.forward(value.array()))
        elif value is not None:
            result[name] = plain(value) if name == "step" else value
    return result


def _axis(kind: str, entry: Entry) -> int | None:
    return last_axis(entry) if kind == "hgcn.RiemannianAdam" else None


def _holds(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, list, tuple, dict, Tensor, np.generic))


__all__ = ["Choice", "Plan", "begun", "build", "choose", "load", "save", "uneven"]
