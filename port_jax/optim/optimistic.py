"""Riemannian optimistic gradient descent (and ascent), for min-max problems on manifolds."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from port_jax.optim import gradients, scalars, trees
from port_jax.optim.scalars import ScalarOrSchedule
from port_jax.types import Manifolds, OptState, Params, Updates

__all__ = ["OptimisticState", "riemannian_ogd"]


class OptimisticState(NamedTuple):
    """step: updates made. previous: the last Riemannian gradients, transported to the current points."""

    step: Int[Array, ""]
    previous: PyTree[Array]


def riemannian_ogd(learning_rate: ScalarOrSchedule, *, manifolds: Manifolds, ascend: Any = False) -> optax.GradientTransformation:
    """Descent with the gradient that the next step would see if the gradient kept changing in the same way.

    With r_t the Riemannian gradient at p_t, with its sign changed where the player ascends:

        u = -learning_rate (2 r_t - T r_(t-1)),      T the transport from p_(t-1) to p_t; r_(-1) is r_0
        p = M.expmap(p, u)

    On a saddle, where simultaneous gradient descent and ascent spiral outwards, the iterates converge. On Euclidean()
    it is optax.optimistic_gradient_descent, except for the first step.

    Arguments:
        manifolds: as in `riemannian_adam`.
        ascend: a tree of bools over the parameters, or a prefix of one, that says which of them maximise.

    Source: Wang, Hu, Wang and Abernethy, Riemannian optimistic algorithms (2023), algorithm R-OGDA; on Euclidean space
    Popov, Math. Notes 28, 1980, and Daskalakis et al., ICLR 2018. Errors: those of `riemannian_adam`;
    NotImplementedError if a manifold has no exponential.
    """
    scalars.check_range("learning_rate", learning_rate, 0)

    def init(params: Params) -> OptState:
        trees.check_parameters(trees.match_manifolds(manifolds, params), params)
        return OptimisticState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(updates: Updates, state: Any, params: Params = None) -> tuple[Updates, OptState]:
        if params is None:
            raise ValueError("riemannian_ogd moves points: call update(gradients, state, params)")
        found, points, grads, structure = gradients.flattened(manifolds, params, updates)
        previous = trees.match_state(state.previous, structure, "previous")
        signs = jax.tree.leaves(jax.tree.map(lambda up, part: jax.tree.map(lambda _: 1 - 2 * up, part), ascend, params))
        rate = scalars.at_step(learning_rate, state.step)
        change = [jnp.zeros_like(p) for p in points]
        for i, (m, p, g) in enumerate(zip(found, points, grads, strict=True)):
            if g is not None:
                kept, dtype = p.dtype, scalars.working_type(p.dtype)
                p, g, last = (a.astype(dtype) for a in (p, g, previous[i]))
                r = signs[i] * m.egrad2rgrad(p, g)
                before = jnp.where(state.step == 0, r, last)
                u = -scalars.cast(rate, p.dtype) * (2 * r - before)
                q = m.expmap(p, u)
                change[i], previous[i] = q - p, m.transp(p, q, r).astype(kept)
                if kept != dtype:
                    change[i] = m.narrowed(q, kept) - points[i]
        return structure.unflatten(change), OptimisticState(state.step + 1, structure.unflatten(previous))

    return optax.GradientTransformation(init, update)
