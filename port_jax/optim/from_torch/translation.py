"""From a section to the groups of one transformation (settings, counts and scheduler of each), and to its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from port_jax.optim import trees
from port_jax.optim.from_torch import defects, dialects, groups, numbers, schedulers
from port_jax.optim.from_torch.dialects import Dialect, Tally
from port_jax.optim.from_torch.group_rates import Lambdas
from port_jax.optim.from_torch.groups import Group, GroupsState
from port_jax.optim.from_torch.kinds import Kind
from port_jax.optim.from_torch.sections import Section, Settings, plain
from port_jax.optim.from_torch.settings import INDIFFERENT
from port_jax.types import Manifolds, Params

__all__ = ["Translation", "counted", "flat_paths", "resume", "settled", "translate"]


class Translation(NamedTuple):
    """The groups of a section as parts of one transformation.

    scheduler: the state of the scheduler that the rates follow, None if they are constant. per_step: the number of updates per scheduler
    step. ahead: by how many updates the schedules are ahead of a single group's own step.
    """

    kind: Kind
    groups: tuple[Group, ...]
    scheduler: Mapping[str, Any] | None = None
    per_step: int = 1
    ahead: int = 0

    def transformation(self, params: Params, manifolds: Manifolds | None) -> Any:
        """The optax transformation. Raises ValueError for a Riemannian optimizer without manifolds."""
        if self.kind.riemannian and manifolds is None:
            raise ValueError(f"{self.kind.name} moves points: give manifolds=, a tree of manifolds over the parameters")
        return groups.transformation(self.groups, params, manifolds if self.kind.riemannian else None, self.per_step, self.ahead)

    def defects(self, params: Params, manifolds: Manifolds | None) -> list[str]:
        """What it does as geoopt, and port_jax's own optimizers would not do, where its parameters are: whole sentences."""
        if manifolds is None:
            return []
        members = {path for group in self.groups for path in group.members}
        each = zip(trees.flatten(params)[0], trees.match_manifolds(manifolds, params), strict=True)
        return defects.sentences(self.kind, self.groups[0].settings, [found for path, found in each if trees.show(path) in members])


def counted(kind: Kind, section: Section) -> tuple[Tally, ...]:
    """The dialect and the counts of each group. Errors: those of `dialects.tally`."""
    found = []
    for number, (group, own, entries) in enumerate(zip(*_divided(kind, section), strict=True)):
        late = kind.sgd and kind.keeps_buffers(settled(kind, group))
        found.append(dialects.tally(kind.dialects, number, group, own, entries, late))
    return tuple(found)


def translate(
    kind: Kind,
    section: Section,
    tallies: Sequence[Tally],
    scheduler_state: Mapping[str, Any] | None = None,
    *,
    lr_lambda: Lambdas = None,
    num_steps: int | None = None,
    per_step: int = 1,
    last_axes: Mapping[str, int | Sequence[int]] | None = None,
    strict: bool = False,
) -> Translation:
    """The translation of a section that has counted `tallies`.

    last_axes: by path, the axis or axes that are summed over, if it is not the last; see `Kind.by_rows`. strict: whether a setting that
    the kind does not have is an error. The other arguments and the errors are those of `from_torch`.
    """
    groups, members, _ = _divided(kind, section)
    made = []
    for number, (group, own, tally) in enumerate(zip(groups, members, tallies, strict=True)):
        settings = settled(kind, group, strict, tally.dialect, last_axes)
        schedule = schedulers.group_schedule(scheduler_state, {**settings, **group}, number, lr_lambda, num_steps)
        schedulers.check_rate(scheduler_state, schedule, group, number)
        made.append(Group(kind, settings, tuple(own), schedule, tally.dialect, tally.extra))
    first = made[0].schedule
    ahead = first.done * per_step - tallies[0].steps if first.rate is not None else 0
    return Translation(kind, tuple(made), scheduler_state, per_step, ahead)


def resume(
    translation: Translation,
    tallies: Sequence[Tally],
    section: Section,
    params: Params,
    manifolds: Manifolds | None,
    leaf: numbers.Leaf = numbers.kept,
) -> tuple[Any, Any]:
    """The transformation, and its state with torch's numbers, from the section's entries in the layout of `params`.

    leaf: makes each array of the state from the one in the entries, which is then let go.

    Errors: those of `from_torch`.
    """
    kind, everything = translation.kind, section.everything
    tx = translation.transformation(params, manifolds)
    blank = jax.eval_shape(tx.init, params)
    inner = blank.groups if isinstance(blank, GroupsState) else (blank,)
    states = [
        numbers.filled(kind, shapes, tally, {path: everything.get(path, {}) for path in group.members}, leaf)
        for shapes, tally, group in zip(inner, tallies, translation.groups, strict=True)
    ]
    if not isinstance(blank, GroupsState):
        return tx, states[0]
    step = jnp.asarray(max(group.schedule.done for group in translation.groups) * translation.per_step, jnp.int32)
    return tx, GroupsState(step, tuple(group.schedule.plateau for group in translation.groups), tuple(states))


def settled(
    kind: Kind, group: Settings, strict: bool = False, dialect: Dialect | None = None, axes: Mapping[str, int | Sequence[int]] | None = None
) -> dict[str, Any]:
    """The settings of a group, with torch's defaults for missing ones. `strict` and `axes` are as in `translate`.

    Raises ValueError for a setting that the class does not have. `settings.check_values` has checked the others.
    """
    ours = {**kind.settings, **kind.ours}
    if strict and (unknown := group.keys() - ours.keys() - INDIFFERENT):
        raise ValueError(f"{kind.name} has no setting {', '.join(sorted(unknown))}; it has {', '.join(ours)}")
    settings = {key: plain(group.get(key, default)) for key, default in ours.items()}
    settings |= {"raw_eps": True} if dialect is not None and dialect.raw_eps else {}
    settings |= {} if kind.decoupled is None else {"decoupled": bool(plain(group.get("decoupled_weight_decay", kind.decoupled)))}
    return settings | ({"axes": dict(axes or {})} if kind.by_rows else {})


def flat_paths(params: Params, manifolds: Manifolds | None) -> list[str]:
    """The paths of the parameters on Euclidean()."""
    paths = [trees.show(path) for path in trees.flatten(params)[0]]
    if manifolds is None:
        return paths
    found = trees.match_manifolds(manifolds, params)
    return [path for path, manifold in zip(paths, found, strict=True) if manifold.flat]


def _divided(kind: Kind, section: Section) -> Section:
    return section.one if kind.search else section
