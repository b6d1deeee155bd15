"""Parameter groups of a torch optimizer as parts of one transformation, and torch's numbers as its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from port_jax.optim import torch_counts, torch_groups, torch_optimizers, torch_schedulers, torch_state, trees
from port_jax.optim.torch_groups import GroupsState, Part
from port_jax.optim.torch_recognition import Entries
from port_jax.optim.torch_schedulers import Planned

LINE_SEARCH = "RiemannianLineSearch"
Lambdas = Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None


class Translated(NamedTuple):
    """Groups with their plans. counts: of each group, by path; dialects: where torch keeps them. steps: updates made, by group."""

    kind: str
    parts: tuple[Part, ...]
    counts: tuple[Mapping[str, int], ...]
    dialects: tuple[str, ...]
    steps: tuple[int, ...]

    def ahead(self, per_step: int) -> int:
        """The updates that the schedules are ahead of a single group's step."""
        return self.parts[0].plan.done * per_step - self.steps[0] if self.parts[0].plan.rate is not None else 0


def translated(
    kind: str,
    groups: Sequence[Mapping[str, Any]],
    members: Sequence[Sequence[str]],
    entries: Sequence[Entries],
    scheduler_state: Mapping[str, Any] | None = None,
    lr_lambda: Lambdas = None,
    num_steps: int | None = None,
    last_axes: Mapping[str, int] | None = None,
    strict: bool = False,
) -> Translated:
    """The groups of an optimizer of this kind; members: their parameters' paths. Errors: those of `from_torch`."""
    if kind == LINE_SEARCH:  # one search along all parameters, with the settings of the first group
        members = [[path for own in members for path in own]]
        entries, groups = [{path: entry for own in entries for path, entry in own.items()}], groups[:1]
    parts, counts, dialects, steps = [], [], [], []
    for number, (group, own, states) in enumerate(zip(groups, members, entries, strict=True)):
        dialect = torch_counts.dialect(torch_optimizers.KINDS[kind].counts, kind, number, group, list(states.values()))
        settings = torch_optimizers.settled(kind, group, strict, dialect, last_axes)
        begun = kind.endswith("SGD") and torch_optimizers.keeps_buffers(kind, settings)
        count, extra = torch_counts.read(dialect, number, group, own, states, begun)
        plan = _plan(scheduler_state, {**settings, **group}, number, lr_lambda, num_steps)
        parts.append(Part(kind, settings, tuple(own), plan, extra))
        counts.append(count)
        dialects.append(dialect)
        steps.append(_step(dialect, number, group, count, extra))
    return Translated(kind, tuple(parts), tuple(counts), tuple(dialects), tuple(steps))


def resumed(
    made: Translated,
    params: PyTree[Array],
    manifolds: trees.Manifolds | None,
    entries: Sequence[Entries],
    per_step: int = 1,
) -> tuple[Any, Any]:
    """The transformation and its state, from torch's entries by path, in the layout of `params`."""
    kind = made.kind
    if manifolds is None and torch_optimizers.KINDS[kind].riemannian:
        raise ValueError(f"{kind} moves points: give manifolds=, a tree of manifolds over the parameters")
    tx = torch_groups.transformation(made.parts, params, manifolds, per_step, made.ahead(per_step))
    blank = jax.eval_shape(tx.init, params)
    inner = blank.groups if isinstance(blank, GroupsState) else (blank,)
    everything = {path: entry for own in entries for path, entry in own.items()}
    states = [
        torch_state.resumed(kind, shapes, step, counts, {path: everything.get(path, {}) for path in part.members})
        for shapes, step, counts, part in zip(inner, made.steps, made.counts, made.parts, strict=True)
    ]
    if not isinstance(blank, GroupsState):
        return tx, states[0]
    step = jnp.asarray(max(part.plan.done for part in made.parts) * per_step, jnp.int32)
    return tx, GroupsState(step, tuple(part.plan.plateau for part in made.parts), tuple(states))


def flat_paths(params: PyTree[Array], manifolds: trees.Manifolds | None) -> list[str]:
    """The parameters on no manifold but Euclidean()."""
    paths = [trees.show(path) for path in trees.flatten(params)[0]]
    if manifolds is None:
        return paths
    found = trees.match_manifolds(manifolds, params)
    return [path for path, manifold in zip(paths, found, strict=True) if manifold.flat]


def _step(dialect: str, number: int, group: Mapping[str, Any], counts: Mapping[str, int], extra: int) -> int:
    """The updates that a group has made."""
    if dialect == torch_counts.NONE:
        return 0
    if dialect == torch_counts.PARAMETER:
        return max(counts.values(), default=0)
    return torch_counts.integer(group.get("step", 0), f"param_groups[{number}]['step']") // (extra + 1)


def _plan(scheduler_state: Any, group: Any, index: int, lr_lambda: Any, num_steps: int | None) -> Planned:
    planned = torch_schedulers.plan(scheduler_state, group, index, lr_lambda, num_steps)
    if scheduler_state is not None and ("base_lrs" in scheduler_state or "_schedulers" in scheduler_state):
        torch_schedulers.check_rate(planned, group, index)
    return planned
