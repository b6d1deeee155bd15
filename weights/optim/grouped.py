"""Several parameter groups, and parameters that stand still, as one optax transformation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import optax
from optax.transforms import MaskedNode

from weights.optim.table import OptimizerTable


class GroupedState(NamedTuple):
    """The state of each group; parameters of other groups are masked in it."""

    groups: tuple[Any, ...]


@dataclass(frozen=True)
class Part:
    """One group: its settings, the paths of its parameters in the order of the updates, and `extra`, see `grouped`."""

    settings: Mapping[str, Any]
    paths: tuple[str, ...]
    extra: int = 0


def grouped(
    table: OptimizerTable, parts: Sequence[Part], manifolds: Callable[[Any], Any] | None, ordered: bool
) -> optax.GradientTransformation:
    """Each part moves its own parameters, one after the other; what is in none gets no update.

    `manifolds` makes the tree of manifolds from all parameters, those of the other parts included, as they stand when
    the part's turn comes. After each update `extra` is added to the counts of a part: geoopt until 0.3.1 counted every
    parameter of a group twice, in one counter, so that a parameter's next bias correction is 2 x parameters on.
    """

    def transformation(part: Part, full: Any) -> optax.GradientTransformation:
        def merged(masked: Any) -> Any:
            assert manifolds is not None
            return manifolds(jax.tree.map(lambda m, p: p if _masked(m) else m, masked, full, is_leaf=_masked))

        order = list(part.paths) if ordered else None
        return table.build(part.settings, merged if manifolds is not None else flat_manifolds, order)

    def init(params: Any) -> Any:
        return GroupedState(tuple(transformation(part, params).init(only(part.paths, params)) for part in parts))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("the optimizer moves points: call update(gradients, state, params)")
        changes = jax.tree.map(lambda p: p * 0, params)
        states = []
        for part, inner in zip(parts, state.groups, strict=True):
            moved = optax.tree.add(params, changes)
            change, inner = transformation(part, moved).update(
                only(part.paths, updates), inner, only(part.paths, params)
            )
            changes = jax.tree.map(lambda new, old: old if _masked(new) else new, change, changes, is_leaf=_masked)
            if part.extra:
                step, count, trees = table.unpack(inner)
                inner = table.pack(step, jax.tree.map(lambda n, e=part.extra: n + e, count), trees)
            states.append(inner)
        return changes, GroupedState(tuple(states))

    return optax.GradientTransformation(init, update)


def only(paths: Sequence[str], tree: Any) -> Any:
    """The tree with everything but these paths masked."""
    kept = set(paths)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            leaf if "/".join(str(jax.tree_util.keystr((k,), simple=True)) for k in path) in kept else MaskedNode()
        ),
        tree,
    )


def _masked(node: Any) -> bool:
    return isinstance(node, MaskedNode)


def flat_manifolds(params: Any) -> Any:
    from port_jax.manifolds import Euclidean

    return jax.tree.map(lambda _: Euclidean(), params)
