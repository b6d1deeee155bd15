"""A torch or geoopt optimizer, with its schedule, groups and state, as an optax transformation that goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from port_jax.optim import torch_optimizers, torch_schedulers, trees
from port_jax.optim.reduce_on_plateau import PlateauState, ReduceOnPlateau
from port_jax.optim.schedules import Schedule
from port_jax.optim.torch_schedulers import Planned


class GroupsState(NamedTuple):
    """The state of several groups. step: updates made here. plateaus, groups: one entry a parameter group."""

    step: Int[Array, ""]
    plateaus: tuple[PlateauState | None, ...]
    groups: tuple[Any, ...]


def from_torch(
    optimizer_state: Mapping[str, Any],
    *,
    params: PyTree[Array],
    names: Mapping[int, str] | Sequence[str] | None = None,
    manifolds: trees.Manifolds | None = None,
    scheduler_state: Mapping[str, Any] | None = None,
    optimizer: str | None = None,
    lr_lambda: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
    num_steps: int | None = None,
    updates_per_step: int = 1,
) -> tuple[optax.GradientTransformationExtraArgs, Any]:
    """The transformation of a torch optimizer and its state, ready for the next update.

    Known are geoopt's RiemannianAdam and RiemannianSGD and torch's Adam, AdamW, SGD, RMSprop and Adagrad, and the
    schedulers of `schedules` and `ReduceOnPlateau`. The class is recognised from the settings, or given as `optimizer`.

    Arguments:
        optimizer_state: `optimizer.state_dict()` with numpy arrays, in the layout of `params`; or a configuration, the
            arguments of the class with its "name", for one group that holds all parameters and no state.
        params: the parameters. One that is in no group is not trained: its updates are zero.
        names: the parameter's path, keys joined by "/", by torch's index.
        manifolds: as in `riemannian_adam`. geoopt's optimizers need it; torch's know no manifold and take no notice.
        scheduler_state: `scheduler.state_dict()`, or torch's arguments with the class's "name".
        lr_lambda: the function of LambdaLR, which no state holds.
        num_steps: the scheduler steps of the whole run, for a schedule without closed form.
        updates_per_step: updates between two steps of the scheduler: 1, or the batches of an epoch.

    Returns the transformation and its state: one group with all parameters, at a rate that depends on the step only, is
    `riemannian_adam` (or what stands for the class) with its own state; otherwise the state is a `GroupsState`, and the
    groups move in torch's order, so that a point follows a curvature of an earlier group. With ReduceLROnPlateau an
    update with `value=metric` steps the scheduler.

    Errors: ValueError for an unknown class or scheduler, an index without a name, a name that is no parameter or comes
    twice, a buffer that does not fit its parameter, a rate that is not the scheduler's.
    """
    config = "param_groups" not in optimizer_state
    paths, _, _ = trees.flatten(params)
    shown = [trees.show(path) for path in paths]
    if config:
        names = shown if names is None else names
        optimizer = optimizer or optimizer_state.get("name")
        groups = [{**optimizer_state, "params": list(range(len(names)))}]
        if optimizer is None:
            raise ValueError("a configuration without 'name': say optimizer=, for instance 'RiemannianAdam'")
    else:
        groups = list(optimizer_state["param_groups"])
    kind = torch_optimizers.recognised(groups, optimizer)
    if manifolds is None and torch_optimizers.KINDS[kind].riemannian:
        raise ValueError(f"{kind} moves points: give manifolds=, a tree of manifolds over the parameters")
    members = [_named(group["params"], names, shown) for group in groups]
    _check_once(members)
    settings = [torch_optimizers.settled(kind, group, strict=config) for group in groups]
    plans = [
        _plan(scheduler_state, {**s, **g}, i, lr_lambda, num_steps) for i, (s, g) in enumerate(zip(settings, groups))
    ]
    saved = optimizer_state.get("state", {})
    entries = [
        {path: saved.get(i, saved.get(str(i), {})) for i, path in zip(group["params"], own, strict=True)}
        for group, own in zip(groups, members, strict=True)
    ]
    following = callable(manifolds)
    parts = [_Part(kind, s, p, own, following) for s, p, own in zip(settings, plans, members, strict=True)]
    whole = set(members[0]) == set(shown)
    if len(groups) == 1 and whole and not isinstance(plans[0].rate, ReduceOnPlateau) and plans[0].momentum is None:
        return _single(parts[0], groups[0], entries[0], params, manifolds, updates_per_step, shown)
    return _several(parts, groups, entries, params, manifolds, updates_per_step)


class _Part(NamedTuple):
    """One group: its class and settings, its plan, the paths of its parameters in torch's order."""

    kind: str
    settings: Mapping[str, Any]
    plan: Planned
    members: Sequence[str]
    following: bool

    def build(self, rate: Any, momentum: Any, manifolds: Any) -> optax.GradientTransformation:
        order = self.members if self.following else None
        return torch_optimizers.build(self.kind, self.settings, rate, momentum, manifolds, order)


def _single(
    part: _Part, group: Any, entries: Any, params: Any, manifolds: Any, updates: int, shown: list[str]
) -> tuple[optax.GradientTransformationExtraArgs, Any]:
    blank = part.build(0.0, None, manifolds).init(params)
    state = torch_optimizers.resumed(part.kind, blank, group, [entries[path] for path in shown], shown)
    rate = part.plan.rate
    if rate is None:
        return optax.with_extra_args_support(part.build(part.settings["lr"], None, manifolds)), state
    assert isinstance(rate, Schedule)
    if not part.settings.get("stabilize"):  # whose turn follows the same count in riemannian_sgd
        state = state._replace(step=jnp.asarray(part.plan.done * updates, jnp.int32))
    ahead = part.plan.done * updates - int(state.step)
    tx = part.build(lambda step: rate((step + ahead) // updates), None, manifolds)
    return optax.with_extra_args_support(tx), state


def _several(
    parts: Sequence[_Part], groups: Any, entries: Any, params: Any, manifolds: Any, per_step: int
) -> tuple[optax.GradientTransformationExtraArgs, Any]:
    index = {trees.show(path): i for i, path in enumerate(trees.flatten(params)[0])}

    def part_of(members: Sequence[str], leaves: Sequence[Any]) -> dict[str, Any]:
        return {path: leaves[index[path]] for path in sorted(members)}

    def manifolds_of(members: Sequence[str], structure: Any, leaves: Sequence[Any]) -> Any:
        """A callable from the group's points to their manifolds, the other groups' parameters being as they stand."""

        def current(points: Mapping[str, Any]) -> Any:
            now = list(leaves)
            for path, point in points.items():
                now[index[path]] = point
            return part_of(members, trees.match_manifolds(manifolds, structure.unflatten(now)))

        return current

    def init(params: Any) -> Any:
        _, leaves, structure = trees.flatten(params)
        begun = []
        for part in parts:
            momentum = None if part.plan.momentum is None else part.plan.momentum(0)
            tx = part.build(0.0, momentum, manifolds_of(part.members, structure, leaves))
            begun.append(tx.init(part_of(part.members, leaves)))
        plateaus = [p.plan.rate.init() if isinstance(p.plan.rate, ReduceOnPlateau) else None for p in parts]
        return GroupsState(jnp.zeros([], jnp.int32), tuple(plateaus), tuple(begun))

    def update(updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any) -> tuple[Any, Any]:
        _, leaves, structure = trees.flatten(params)
        grads = trees.match_gradients(updates, params)
        moved, change = list(leaves), [jnp.zeros_like(leaf) for leaf in leaves]
        done, plateaus = [], []
        for part, own, plateau in zip(parts, state.groups, state.plateaus, strict=True):
            step = state.step // per_step
            rate, momentum = part.plan.rate, part.plan.momentum
            if isinstance(rate, ReduceOnPlateau):
                now, plateau = rate(plateau), rate.update(plateau, value=value)
            else:
                now = part.settings["lr"] if rate is None else rate(step)
            tx = part.build(
                now, None if momentum is None else momentum(step), manifolds_of(part.members, structure, moved)
            )
            points = part_of(part.members, moved)
            moves: Any
            moves, own = tx.update(part_of(part.members, grads), own, points)
            for path in points:
                change[index[path]] = moves[path]
                moved[index[path]] = points[path] + moves[path]
            done.append(own)
            plateaus.append(plateau)
        return structure.unflatten(change), GroupsState(state.step + 1, tuple(plateaus), tuple(done))

    state = init(params)
    filled = [
        torch_optimizers.resumed(p.kind, blank, group, [own[path] for path in sorted(p.members)], sorted(p.members))
        for p, blank, group, own in zip(parts, state.groups, groups, entries, strict=True)
    ]
    step = jnp.asarray(max(part.plan.done for part in parts) * per_step, jnp.int32)
    state = GroupsState(step, tuple(part.plan.plateau for part in parts), tuple(filled))
    return optax.GradientTransformationExtraArgs(init, update), state


def _plan(scheduler_state: Any, group: Any, index: int, lr_lambda: Any, num_steps: int | None) -> Planned:
    if scheduler_state is None:
        return Planned(None)
    planned = torch_schedulers.plan(scheduler_state, group, index, lr_lambda, num_steps)
    if "base_lrs" in scheduler_state or "_schedulers" in scheduler_state:
        torch_schedulers.check_rate(planned, group, index)
    return planned


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
