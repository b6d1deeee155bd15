"""Riemannian Adam that touches some rows of a table, with the numbers of geoopt's `SparseRiemannianAdam`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from port_jax.optim import scalars, sparse_rows, trees
from port_jax.optim.riemannian_adam import Hyper, Moments, RiemannianAdamState, adam_step, second_moment
from port_jax.optim.scalars import Scalar, ScalarOrSchedule
from port_jax.optim.sparse_rows import SparseTransformation
from port_jax.types import Manifolds, Params, Updates

__all__ = ["sparse_riemannian_adam"]


def sparse_riemannian_adam(
    learning_rate: ScalarOrSchedule = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    amsgrad: bool = False,
    stabilize: int | None = None,
    *,
    manifolds: Manifolds,
) -> SparseTransformation:
    """`riemannian_adam` on the rows that a batch touches; all other rows, and their moments, do not change.

    The gradients are `RowGradients` (None for a table without gradients). A row's moments decay only when it is touched, while the
    bias correction counts the steps of the whole table. The cost is that of the touched rows if the step is jitted with
    state and parameters donated:

        step = jax.jit(tx.step, donate_argnums=(0, 1))
        table, state = step(table, state, RowGradients(indices, values))

    With `amsgrad` the state keeps the denominator sqrt(max / (1 - b2^t)), as in geoopt's sparse form, whereas the dense form
    keeps the maximum, so that the two differ. `stabilize` is that of `riemannian_adam`: it projects the whole tables, at
    the cost of the tables and not of the batch. There is no weight decay.

    Errors: those of `riemannian_adam`; also TypeError for dense gradients, ValueError for parameters that are not
    matrices, IndexError for an index outside the table if its value is known (under jit it is ignored).
    """
    scalars.check_range("learning_rate", learning_rate, 0)
    scalars.check_range("b1", b1, 0, 1)
    scalars.check_range("b2", b2, 0, 1)
    scalars.check_range("eps", eps, 0)
    if stabilize is not None:
        scalars.check_range("stabilize", stabilize, 1)

    def init(params: Params) -> RiemannianAdamState:
        found = trees.match_manifolds(manifolds, params)
        sparse_rows.check_tables(found, params)
        leaves, structure = jax.tree.flatten(params)
        nu = structure.unflatten([second_moment(M, p) for M, p in zip(found, leaves, strict=True)])
        return RiemannianAdamState(
            step=jnp.zeros([], jnp.int32),
            count=jax.tree.map(lambda p: jnp.zeros([], jnp.int32), params),
            mu=jax.tree.map(jnp.zeros_like, params),
            nu=nu,
            nu_max=jax.tree.map(jnp.zeros_like, nu) if amsgrad else None,
        )

    def step(params: Params, state: RiemannianAdamState, grads: Updates) -> tuple[Any, RiemannianAdamState]:
        tables, structure = jax.tree.flatten(params)
        found = trees.match_manifolds(manifolds, params)
        count, mu, nu = (trees.match_state(getattr(state, name), structure, name) for name in ("count", "mu", "nu"))
        nu_max = trees.match_state(state.nu_max, structure, "nu_max") if amsgrad else trees.nothing(tables)
        hyper = Hyper(scalars.at_step(learning_rate, state.step), b1, b2, eps, 0.0)
        due = []
        for i, rows in enumerate(sparse_rows.match_rows(grads, params)):
            if rows is not None:
                count[i] = count[i] + 1
                whole = Moments(mu[i], nu[i], nu_max[i])
                at = rows.indices
                point, moments = sparse_rows.read((tables[i], whole), at)
                point, _, moments = adam_step(found[i], point, rows.values, moments, count[i], hyper, keep_root=True)
                tables[i], (mu[i], nu[i], nu_max[i]) = sparse_rows.write((tables[i], whole), at, (point, moments))
                due.append(count[i] % (stabilize or 1) == 0)
        if stabilize is not None:
            tables, mu = trees.stabilized(jnp.any(jnp.array(due, bool)), found, tables, mu, [n > 0 for n in count])
        return structure.unflatten(tables), RiemannianAdamState(
            step=state.step + 1,
            count=structure.unflatten(count),
            mu=structure.unflatten(mu),
            nu=structure.unflatten(nu),
            nu_max=structure.unflatten(nu_max) if amsgrad else None,
        )

    return SparseTransformation(init, step)
