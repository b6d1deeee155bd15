"""A torch or geoopt optimizer, with its schedule, groups and state, as an optax transformation that goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from port_jax.optim import torch_recognition, torch_translation, trees
from port_jax.optim.torch_groups import GroupsState
from port_jax.optim.torch_translation import LINE_SEARCH, Lambdas


def from_torch(
    optimizer_state: Mapping[str, Any],
    *,
    params: PyTree[Array],
    names: Mapping[int, str] | Sequence[str] | None = None,
    manifolds: trees.Manifolds | None = None,
    scheduler_state: Mapping[str, Any] | None = None,
    optimizer: str | None = None,
    lr_lambda: Lambdas = None,
    num_steps: int | None = None,
    updates_per_step: int = 1,
    last_axes: Mapping[str, int] | None = None,
) -> tuple[Any, Any]:
    """The transformation of a torch optimizer and its state, ready for the next update.

    Known are the optimizers of `torch_optimizers.KINDS`: geoopt's (in the dialects of its versions), torch's Adam, AdamW, SGD,
    RMSprop and Adagrad, the own ones of HGCN, fully-hyperbolic-nn, MuRP and poincare-embeddings; and the schedulers of
    `schedules` and `ReduceOnPlateau`. The class is recognised from settings and numbers, or given as `optimizer`.

    Arguments:
        optimizer_state: `optimizer.state_dict()` with numpy arrays, in the layout of `params`; or a configuration, the
            arguments of the class with its "name", for one group that holds all parameters and no state. What geoopt's
            line search keeps on the object may stand beside: "old_phi0" and "last_step_size"; without them the next
            search begins as geoopt's does after `load_state_dict`.
        params: the parameters. One that is in no group is not trained: its updates are zero.
        names: the parameter's path, keys joined by "/", by torch's index.
        manifolds: as in `riemannian_adam`. Riemannian optimizers need it; torch's know no manifold and take no notice.
        scheduler_state: `scheduler.state_dict()`, or torch's arguments with the class's "name".
        optimizer: a key of KINDS.
        lr_lambda: the function of LambdaLR and MultiplicativeLR, which no state holds.
        num_steps: the scheduler steps of the whole run, for a schedule without closed form.
        updates_per_step: updates between two steps of the scheduler: 1, or the batches of an epoch.
        last_axes: by path, where a parameter has the last axis of torch's layout, if that is not its last: HGCN's second
            moments are sums over it.

    Returns the transformation and its state: one group with all parameters, at a rate that depends on the step only, is
    `riemannian_adam` (or what stands for the class) with its own state; otherwise the state is a `GroupsState`, and the
    groups move in torch's order, so that a point follows a curvature of an earlier group. With ReduceLROnPlateau an
    update with `value=metric` steps the scheduler. Sparse optimizers give a `SparseTransformation`.

    Errors: ValueError for an unknown class or scheduler, settings and numbers that fit two, an index without a name, a name
    that is no parameter or comes twice, a state of other parameters, a buffer that does not fit, a rate that is not the
    scheduler's.
    """
    config = "param_groups" not in optimizer_state
    shown = [trees.show(path) for path in trees.flatten(params)[0]]
    if config:
        names = shown if names is None else names
        optimizer = optimizer or optimizer_state.get("name")
        groups = [{**optimizer_state, "params": list(range(len(names)))}]
        if optimizer is None:
            raise ValueError("a configuration without 'name': say optimizer=, for instance 'RiemannianAdam'")
    else:
        groups = list(optimizer_state["param_groups"])
    members = [_named(group["params"], names, shown) for group in groups]
    _check_once(members)
    entries = _entries(optimizer_state.get("state", {}), groups, members)
    flat = torch_translation.flat_paths(params, manifolds)
    kind = torch_recognition.recognised(groups, entries, flat, optimizer)
    made = torch_translation.translated(kind, groups, members, entries, scheduler_state, lr_lambda, num_steps, last_axes, strict=config)
    tx, state = torch_translation.resumed(made, params, manifolds, entries, updates_per_step)
    return tx, _searching(state, optimizer_state) if kind == LINE_SEARCH else state


def _entries(saved: Mapping[Any, Any], groups: Sequence[Mapping[str, Any]], members: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The state of each group's parameters by path, without what is None; ValueError for a state that no group lists."""
    listed = {str(i) for group in groups for i in group["params"]}
    if stray := [i for i in saved if str(i) not in listed]:
        raise ValueError(f"the optimizer has state for index {stray[0]}, which is in no group: save optimizer.state_dict()")

    def entry(i: Any) -> dict[str, Any]:
        return {key: value for key, value in saved.get(i, saved.get(str(i), {})).items() if value is not None}

    return [{path: entry(i) for i, path in zip(g["params"], own, strict=True)} for g, own in zip(groups, members, strict=True)]


def _searching(state: Any, saved: Mapping[str, Any]) -> Any:
    """A line search's state with what geoopt keeps on the object."""
    if saved.get("old_phi0") is None:
        return state
    length = saved.get("last_step_size")
    return state._replace(
        old_value=jnp.asarray(np.asarray(saved["old_phi0"]), state.old_value.dtype),
        moved=jnp.asarray(length is not None),
        found=jnp.asarray(length is not None),
        step_size=jnp.asarray(length or 0.0, state.step_size.dtype),
    )


def _named(indices: Sequence[int], names: Mapping[int, str] | Sequence[str] | None, known: Sequence[str]) -> list[str]:
    if names is None:
        raise ValueError("torch's groups hold indices: give names=, the parameter's path by index")
    found = []
    for i in indices:
        try:
            name = names[i]
        except (KeyError, IndexError):
            raise ValueError(f"index {i} of the optimizer has no name; names has {len(names)} entries") from None
        if name not in known:
            shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
            raise ValueError(f"index {i} is named {name!r}, which is no parameter; parameters are {shown}")
        found.append(name)
    return found


def _check_once(members: Sequence[Sequence[str]]) -> None:
    seen: set[str] = set()
    for name in (name for group in members for name in group):
        if name in seen:
            raise ValueError(f"parameter {name} has two indices in the optimizer")
        seen.add(name)


__all__ = ["GroupsState", "from_torch"]
