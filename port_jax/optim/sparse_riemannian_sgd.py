"""Riemannian SGD that touches some rows of a table, with the numbers of geoopt's `SparseRiemannianSGD`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from port_jax.optim import scalars, sparse_rows, trees
from port_jax.optim.riemannian_sgd import Hyper, RiemannianSGDState, check_momentum, sgd_step
from port_jax.optim.scalars import Scalar, ScalarOrSchedule
from port_jax.optim.sparse_rows import SparseTransformation
from port_jax.types import Manifolds, Params, Updates

__all__ = ["sparse_riemannian_sgd"]


def sparse_riemannian_sgd(
    learning_rate: ScalarOrSchedule,
    momentum: Scalar = 0.0,
    dampening: Scalar = 0.0,
    nesterov: bool = False,
    stabilize: int | None = None,
    *,
    manifolds: Manifolds,
) -> SparseTransformation:
    """`riemannian_sgd` on the rows that a batch touches; all other rows, and their momenta, do not change.

    The gradients are `RowGradients`, as in `sparse_riemannian_adam`. At a table's first step the momenta of its touched
    rows begin with their Euclidean gradients; rows first touched later begin with zero, as in geoopt. `stabilize` projects
    the whole tables, at the cost of the tables and not of the batch. There is no weight decay.

    Errors: those of `riemannian_sgd` and of `sparse_riemannian_adam`.
    """
    with_buffers = check_momentum(learning_rate, momentum, dampening, nesterov, stabilize)

    def init(params: Params) -> RiemannianSGDState:
        sparse_rows.check_tables(trees.match_manifolds(manifolds, params), params)
        return RiemannianSGDState(
            step=jnp.zeros([], jnp.int32),
            count=jax.tree.map(lambda p: jnp.zeros([], jnp.int32), params),
            momentum=jax.tree.map(jnp.zeros_like, params) if with_buffers else None,
        )

    def step(params: Params, state: RiemannianSGDState, grads: Updates) -> tuple[Any, RiemannianSGDState]:
        tables, structure = jax.tree.flatten(params)
        found = trees.match_manifolds(manifolds, params)
        count = trees.match_state(state.count, structure, "count")
        buffers = trees.match_state(state.momentum, structure, "momentum") if with_buffers else trees.nothing(tables)
        hyper = Hyper(scalars.at_step(learning_rate, state.step), momentum, dampening, 0.0)
        for i, rows in enumerate(sparse_rows.match_rows(grads, params)):
            if rows is not None:
                first, at = count[i] == 0, rows.indices
                count[i] = count[i] + 1
                point, buffer = sparse_rows.read((tables[i], buffers[i]), at)
                point, buffer = sgd_step(found[i], point, rows.values, buffer, first, hyper, nesterov)
                tables[i], buffers[i] = sparse_rows.write((tables[i], buffers[i]), at, (point, buffer))
        steps = state.step + 1
        if stabilize is not None:
            every = [True] * len(tables)
            tables, buffers = trees.stabilized(steps % stabilize == 0, found, tables, buffers, every)
        return structure.unflatten(tables), RiemannianSGDState(
            step=steps,
            count=structure.unflatten(count),
            momentum=structure.unflatten(buffers) if with_buffers else None,
        )

    return SparseTransformation(init, step)
