"""Several parameter groups, and parameters that are not trained, as one optax transformation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int
from optax.transforms import MaskedNode

from port_jax.optim import trees
from port_jax.optim.from_torch import numbers, repositories
from port_jax.optim.from_torch.defects import as_in_geoopt
from port_jax.optim.from_torch.dialects import Dialect
from port_jax.optim.from_torch.group_rates import GroupSchedule
from port_jax.optim.from_torch.kinds import Kind
from port_jax.optim.from_torch.sections import Settings
from port_jax.optim.reduce_on_plateau import PlateauState, ReduceOnPlateau
from port_jax.types import Manifolds, OptState, Params, Updates

__all__ = ["Group", "GroupsState", "transformation"]


class GroupsState(NamedTuple):
    """The state of several groups.

    step: updates since the schedules began. plateaus, groups: one entry for each parameter group, in which the parameters of other
    groups are masked.
    """

    step: Int[Array, ""]
    plateaus: tuple[PlateauState | None, ...]
    groups: tuple[Any, ...]


class Group(NamedTuple):
    """One parameter group.

    Its settings, the paths of its parameters in torch's order, the schedule of its rate and momentum, its dialect, and what an update
    adds to each count in addition to 1 (`Dialect.DOUBLE`).
    """

    kind: Kind
    settings: Settings
    members: tuple[str, ...]
    schedule: GroupSchedule
    dialect: Dialect
    extra: int = 0

    @property
    def rest(self) -> int | None:
        """The number of updates between two stabilisations, if they follow a count that goes up by more than 1."""
        every = self.settings.get("stabilize") if self.extra else None
        return every // math.gcd(every, self.extra + 1) if every else None

    def transformation(self, rate: Any, momentum: Any, manifolds: Manifolds, ordered: bool) -> Any:
        """The group's transformation at this rate and, if the momentum moves (OneCycleLR, CyclicLR), at this momentum."""
        settings = {**self.settings, "stabilize": None} if self.extra else dict(self.settings)
        if momentum is not None:
            settings |= {"betas": (momentum, settings["betas"][1])} if "betas" in settings else {"momentum": momentum}
        return self.kind.make(settings, rate, self.moving(manifolds), list(self.members) if ordered else None)

    def moving(self, manifolds: Manifolds) -> Manifolds:
        """The manifolds by which the group's original moves its points: with geoopt's defects, if its kind has them."""
        if not self.kind.defects:
            return manifolds
        return repositories.swapped(manifolds, lambda path, manifold: as_in_geoopt(manifold, self.kind.search))


def _single(groups: Sequence[Group], params: Params) -> bool:
    """Whether one group moves everything at a rate that depends on the step only, so that its own state suffices."""
    group = groups[0]
    everything = set(group.members) == {trees.show(path) for path in trees.flatten(params)[0]}
    simple = not group.extra and group.schedule.momentum is None and not isinstance(group.schedule.rate, ReduceOnPlateau)
    return len(groups) == 1 and everything and simple


def transformation(groups: Sequence[Group], params: Params, manifolds: Manifolds | None, per_step: int = 1, ahead: int = 0) -> Any:
    """The transformation of all groups: that of the class if one group moves everything, else one with a `GroupsState`.

    The groups move in torch's order, so that a point follows a curvature of an earlier group; the update of a parameter in no group is
    zero. per_step: updates per scheduler step. ahead: the updates of the schedules before the first one of a single group's state.
    """
    ordered = callable(manifolds) and any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(manifolds(params)))
    group = groups[0]
    if _single(groups, params):
        rate = group.schedule.rate
        moving = group.settings.get("lr") if rate is None else lambda step: rate((step + ahead) // per_step)
        tx = group.transformation(moving, None, manifolds, ordered)
        return optax.with_extra_args_support(tx) if isinstance(tx, optax.GradientTransformation) else tx
    if group.kind.alone:
        raise ValueError(
            f"{group.kind.name} takes one group of all parameters, at a rate that depends on the step only; found {len(groups)} groups and "
            f"{sum(len(g.members) for g in groups)} of {len(jax.tree.leaves(params))} parameters: translate each group apart, and use "
            "params without those that are not trained"
        )
    return _grouped(groups, manifolds, ordered, per_step)


def _grouped(groups: Sequence[Group], manifolds: Manifolds | None, ordered: bool, per_step: int) -> optax.GradientTransformationExtraArgs:
    def built(group: Group, rate: Any, momentum: Any, full: Any) -> optax.GradientTransformation:
        def current(masked: Any) -> Any:
            """The manifolds at the current points of the group and of the other groups."""
            assert callable(manifolds)
            return manifolds(jax.tree.map(lambda m, p: p if _masked(m) else m, masked, full, is_leaf=_masked))

        return group.transformation(rate, momentum, current if callable(manifolds) else manifolds, ordered)

    def init(params: Params) -> OptState:
        begun = []
        for group in groups:
            momentum = None if group.schedule.momentum is None else group.schedule.momentum(0)
            begun.append(built(group, 0.0, momentum, params).init(_only(group.members, params)))
        plateaus = [rate.init() if isinstance(rate := group.schedule.rate, ReduceOnPlateau) else None for group in groups]
        return GroupsState(jnp.zeros([], jnp.int32), tuple(plateaus), tuple(begun))

    def update(updates: Updates, state: Any, params: Params = None, *, value: Any = None, **extra: Any) -> tuple[Updates, OptState]:
        if params is None:
            raise ValueError("the optimizer moves points: call update(gradients, state, params)")
        grads = jax.tree.unflatten(jax.tree.structure(params), trees.match_gradients(updates, params))
        moved, changes = params, jax.tree.map(jnp.zeros_like, params)
        done, plateaus = [], []
        for group, inner, plateau in zip(groups, state.groups, state.plateaus, strict=True):
            step, rate, momentum = state.step // per_step, group.schedule.rate, group.schedule.momentum
            if isinstance(rate, ReduceOnPlateau):
                now, plateau = rate(plateau), rate.update(plateau, value=value)
            else:
                now = group.settings["lr"] if rate is None else rate(step)
            tx = built(group, now, None if momentum is None else momentum(step), moved)
            points = _only(group.members, params)
            change, inner = tx.update(_only(group.members, grads), inner, points)
            if group.extra:
                there = manifolds(_added(moved, change)) if callable(manifolds) else manifolds
                change, inner = _counted_on(group, change, inner, points, there)
            changes = jax.tree.map(lambda new, old: old if _masked(new) else new, change, changes, is_leaf=_masked)
            moved = _added(moved, change)
            done.append(inner)
            plateaus.append(plateau)
        return changes, GroupsState(state.step + 1, tuple(plateaus), tuple(done))

    return optax.GradientTransformationExtraArgs(init, update)


def _counted_on(group: Group, change: Any, inner: Any, points: Any, manifolds: Manifolds) -> tuple[Any, Any]:
    """A group whose count goes up by more than 1: the counts, and the stabilisation that follows them."""
    counts, _ = numbers.unpacked(group.kind, inner)
    inner = inner._replace(count=jax.tree.map(lambda n: n + group.extra, counts))
    if group.rest is not None:
        old, structure = jax.tree.flatten(points)
        found = trees.match_manifolds(group.moving(manifolds), points)
        new = [p + u for p, u in zip(old, jax.tree.leaves(change), strict=True)]
        due = inner.step % group.rest == 0
        new, mu = trees.stabilized(due, found, new, jax.tree.leaves(inner.mu), [True] * len(new))
        change = structure.unflatten([p - q for p, q in zip(new, old, strict=True)])
        inner = inner._replace(mu=structure.unflatten(mu))
    return change, inner


def _only(paths: Sequence[str], tree: Any) -> Any:
    """The tree with everything but these paths masked."""
    kept = set(paths)
    return jax.tree_util.tree_map_with_path(lambda at, leaf: leaf if numbers.joined(at) in kept else MaskedNode(), tree)


def _added(params: Params, change: Any) -> Any:
    return jax.tree.map(lambda u, p: p if _masked(u) else p + u, change, params, is_leaf=_masked)


def _masked(node: Any) -> bool:
    return isinstance(node, MaskedNode)
