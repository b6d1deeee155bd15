"""A translation as an optax transformation with torch's numbers as its state, ready for the next update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from port_jax.optim import trees
from port_jax.optim.from_torch import numbers
from port_jax.optim.from_torch.dialects import Tally
from port_jax.optim.from_torch.groups import GroupsState
from port_jax.optim.from_torch.sections import Section
from port_jax.optim.from_torch.translation import Translation


def resume(
    translation: Translation, tallies: Sequence[Tally], section: Section, params: PyTree[Array], manifolds: trees.Manifolds | None
) -> tuple[Any, Any]:
    """The transformation and its state, from the section's entries in the layout of `params`. Errors: those of `from_torch`."""
    kind, everything = translation.kind, section.everything
    tx = translation.transformation(params, manifolds)
    blank = jax.eval_shape(tx.init, params)
    inner = blank.groups if isinstance(blank, GroupsState) else (blank,)
    states = [
        numbers.filled(kind, shapes, tally, {path: everything.get(path, {}) for path in group.members})
        for shapes, tally, group in zip(inner, tallies, translation.groups, strict=True)
    ]
    if not isinstance(blank, GroupsState):
        return tx, states[0]
    step = jnp.asarray(max(group.schedule.done for group in translation.groups) * translation.per_step, jnp.int32)
    return tx, GroupsState(step, tuple(group.schedule.plateau for group in translation.groups), tuple(states))
