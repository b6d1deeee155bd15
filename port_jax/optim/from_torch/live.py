"""A torch or geoopt optimizer, with its schedule, groups and state, as an optax transformation that continues; and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from port_jax.arguments import takes, whole
from port_jax.optim.from_torch import back, recognition, settings, translation
from port_jax.optim.from_torch.group_rates import Lambdas
from port_jax.optim.from_torch.numbers import by_path
from port_jax.optim.from_torch.sections import Section
from port_jax.optim.from_torch.translation import Translation
from port_jax.types import Manifolds, Params

__all__ = ["from_torch", "to_torch"]

Names = Mapping[int, str] | Sequence[str] | None


@takes(updates_per_step=whole(1))
def from_torch(
    optimizer_state: Mapping[str, Any],
    *,
    params: Params,
    names: Names = None,
    manifolds: Manifolds | None = None,
    scheduler_state: Mapping[str, Any] | None = None,
    optimizer: str | None = None,
    lr_lambda: Lambdas = None,
    num_steps: int | None = None,
    updates_per_step: int = 1,
    last_axes: Mapping[str, int | Sequence[int]] | None = None,
) -> tuple[Any, Any]:
    """The transformation of a torch optimizer and its state, ready for the next update.

    Known are the optimizers of `kinds.KINDS`: those of geoopt (in the dialects of its versions), torch's Adam, AdamW, SGD,
    RMSprop and Adagrad, and those of HGCN, fully-hyperbolic-nn, HypLL, MuRP and poincare-embeddings; and the schedulers of
    `schedules` and `ReduceOnPlateau`. The class is recognised from settings and numbers, or given as `optimizer`.

    Arguments:
        optimizer_state: `optimizer.state_dict()` with numpy arrays, in the layout of `params`; or a configuration, the
            arguments of the class with its "name", for one group of all parameters without state. For a line search it may
            also have "old_phi0" and "last_step_size", which geoopt stores on the object; without them the next search
            begins as geoopt's does after `load_state_dict`.
        params: the parameters. A parameter in no group is not trained: its updates are zero.
        names: the path of the parameter at each of torch's indices, with keys joined by "/".
        manifolds: as in `riemannian_adam`. Riemannian optimizers need it; torch's own ignore it.
        scheduler_state: `scheduler.state_dict()`, or torch's arguments with the class's "name".
        optimizer: a key of KINDS. Settings that this class does not read are then ignored.
        lr_lambda: the function of LambdaLR and MultiplicativeLR, which no state contains.
        num_steps: the number of scheduler steps of the whole run, for a schedule without a closed form.
        updates_per_step: the number of updates per step of the scheduler: 1, or the number of batches of an epoch.
        last_axes: by path, the axis of a parameter that second moments are summed over, or several, if it is not the last here: torch's
            last one in HGCN's code, the first one of `z` and `weights` in HypLL's.

    Returns the transformation and its state. One group with all parameters, at a rate that depends on the step only,
    becomes `riemannian_adam` (or the counterpart of the class) with its own state; otherwise the state is a `GroupsState`,
    and the groups move in torch's order, so that a point follows a curvature of an earlier group. With ReduceLROnPlateau an
    update with `value=metric` steps the scheduler. Sparse optimizers become a `SparseTransformation`.

    Errors: ValueError for an unknown class or scheduler, a setting that is of another class (`settings.unread`) or whose value no
    class can have, settings and numbers that fit two classes, an index without a name, a
    name that belongs to no parameter or occurs twice, a state of other parameters, a buffer that does not fit, and a rate
    that differs from the scheduler's.
    """
    section, optimizer = _section(optimizer_state, params, names, optimizer)
    kind = recognition.recognise(section, translation.flat_paths(params, manifolds), optimizer)
    settings.check_values(kind, section.groups)
    if "param_groups" in optimizer_state:
        settings.unread(kind, section.groups, named=optimizer is not None)
    tallies = translation.counted(kind, section)
    translated = translation.translate(
        kind, section, tallies, scheduler_state, lr_lambda=lr_lambda, num_steps=num_steps, per_step=int(updates_per_step),
        last_axes=last_axes, strict="param_groups" not in optimizer_state,
    )  # fmt: skip
    tx, state = translation.resume(translated, tallies, section, params, manifolds)
    return tx, _searching(state, optimizer_state) if kind.search else state


@takes(updates_per_step=whole(1))
def to_torch(
    state: Any,
    optimizer_state: Mapping[str, Any],
    *,
    params: Params,
    names: Names = None,
    manifolds: Manifolds | None = None,
    scheduler_state: Mapping[str, Any] | None = None,
    optimizer: str | None = None,
    lr_lambda: Lambdas = None,
    num_steps: int | None = None,
    updates_per_step: int = 1,
    last_axes: Mapping[str, int | Sequence[int]] | None = None,
) -> tuple[dict[str, Any], Any]:
    """The way back from `from_torch`: the argument of torch's `load_state_dict`, after the updates that `state` has seen.

    state: the transformation's state as it is now. The other arguments are those of `from_torch`, including the optimizer's
    state, whose indices, settings and forms are kept; a configuration has no indices and is refused.

    Returns the states of the optimizer and of the scheduler (None without one), with numpy arrays in the layout of `params`. The
    state of a line search also has "old_phi0" and "last_step_size" if it has searched.

    Errors: ValueError as in `from_torch`, for a configuration, and if torch has one count for parameters that have seen different
    numbers of gradients.
    """
    if "param_groups" not in optimizer_state:
        raise ValueError("a configuration has no indices to write to: give optimizer.state_dict() of the torch optimizer")
    section, optimizer = _section(optimizer_state, params, names, optimizer)
    kind = recognition.recognise(section, translation.flat_paths(params, manifolds), optimizer)
    translated = translation.translate(
        kind, section, translation.counted(kind, section), scheduler_state, lr_lambda=lr_lambda, num_steps=num_steps,
        per_step=int(updates_per_step), last_axes=last_axes,
    )  # fmt: skip
    new, scheduler = back.written(section, translated, state, scheduler_state)
    leaves = by_path(params)
    kept = dict(optimizer_state.get("state", {}))
    for group, members, entries in zip(*new, strict=True):
        for i, path in zip(group["params"], members, strict=True):
            entry = {key: _whole(value, leaves[path]) if key in kind.buffers else value for key, value in entries[path].items()}
            at = str(i) if str(i) in kept else i
            if entry or at in kept:
                kept[at] = {**kept.get(at, {}), **entry}
    result = {**optimizer_state, "state": kept, "param_groups": list(new.groups)}
    return result | (_searched(translated, state) if kind.search else {}), scheduler


def _section(saved: Mapping[str, Any], params: Params, names: Names, optimizer: str | None) -> tuple[Section, str | None]:
    """The section of a state or configuration, and the name of the kind if it is given."""
    shown = list(by_path(params))
    if "param_groups" in saved:
        groups = list(saved["param_groups"])
    else:
        names = shown if names is None else names
        optimizer = optimizer or saved.get("name")
        groups = [{**saved, "params": list(range(len(names)))}]
        if optimizer is None:
            raise ValueError("a configuration without 'name': pass optimizer=, for instance 'RiemannianAdam'")
    members = [_named(group["params"], names, shown) for group in groups]
    _check_once(members)
    return Section(groups, members, _entries(saved.get("state", {}), groups, members)), optimizer


def _entries(saved: Mapping[Any, Any], groups: Sequence[Mapping[str, Any]], members: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The state of each group's parameters by path, without entries that are None. Raises ValueError for a state that no group lists."""
    listed = {str(i) for group in groups for i in group["params"]}
    if stray := [i for i in saved if str(i) not in listed]:
        raise ValueError(f"the optimizer has state for index {stray[0]}, which is in no group: save optimizer.state_dict()")

    def entry(i: Any) -> dict[str, Any]:
        return {key: value for key, value in saved.get(i, saved.get(str(i), {})).items() if value is not None}

    return [{path: entry(i) for i, path in zip(g["params"], own, strict=True)} for g, own in zip(groups, members, strict=True)]


def _searching(state: Any, saved: Mapping[str, Any]) -> Any:
    """A line search's state with what geoopt stores on the object."""
    if saved.get("old_phi0") is None:
        return state
    length = saved.get("last_step_size")
    return state._replace(
        old_value=jnp.asarray(np.asarray(saved["old_phi0"]), state.old_value.dtype),
        moved=jnp.asarray(length is not None),
        found=jnp.asarray(length is not None),
        trials=jnp.ones_like(state.trials),  # how many there were is not stored
        step_size=jnp.asarray(length or 0.0, state.step_size.dtype),
    )


def _searched(translated: Translation, state: Any) -> dict[str, Any]:
    """What geoopt stores on the object of a line search; nothing before the first search."""
    if not bool(state.moved) and not int(state.trials):
        return {}
    return {"old_phi0": float(state.old_value), "last_step_size": float(state.step_size) if bool(state.found) else None}


def _whole(value: Any, like: Any) -> np.ndarray:
    """A buffer as torch has it: in the parameter's shape even if the numbers of a point are stored as one, and complex if it is complex."""
    value = np.broadcast_to(np.asarray(value), np.shape(like))
    return value.astype(np.result_type(value, np.complex64) if np.iscomplexobj(like) else value.dtype)


def _named(indices: Sequence[int], names: Names, known: Sequence[str]) -> list[str]:
    if names is None:
        raise ValueError("torch's groups contain indices: give names=, the path of the parameter at each index")
    found = []
    for i in indices:
        try:
            name = names[i]
        except (KeyError, IndexError):
            raise ValueError(f"index {i} of the optimizer has no name; names has {len(names)} entries") from None
        if name not in known:
            shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
            raise ValueError(f"index {i} is named {name!r}, but no parameter has this path; parameters are {shown}")
        found.append(name)
    return found


def _check_once(members: Sequence[Sequence[str]]) -> None:
    seen: set[str] = set()
    for name in (name for group in members for name in group):
        if name in seen:
            raise ValueError(f"parameter {name} has two indices in the optimizer")
        seen.add(name)
