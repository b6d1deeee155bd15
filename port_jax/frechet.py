"""The Fréchet mean of points on any manifold with a logarithm, differentiable by the implicit function theorem."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds.base import Manifold

__all__ = ["frechet_mean", "frechet_variance"]

Points = Float[Array, "n *point"]


def frechet_mean(
    manifold: Manifold, points: Points, weights: Float[Array, " n"] | None = None, *, max_iter: int = 200
) -> Float[Array, "*point"]:
    """argmin_m Σ wᵢ d(m, xᵢ)² over one set of points; use `jax.vmap` for many sets.

    Riemannian gradient descent m ← exp_m(t Σ wᵢ log_m xᵢ) from the heaviest point, with a step t ≤ 1 that is halved where the
    gradient would grow, until the gradient is at rounding error. `weights` are nonnegative, by default equal. On a manifold of
    positive curvature the points have to lie in a convex ball, where the mean is unique.

    Derivatives of any order with respect to points, weights and the manifold's parameters come from F(m) = Σ wᵢ log_m xᵢ = 0:
    dm = -(∂F/∂m)⁻¹ dF (Lou et al. 2020). They do not depend on the iteration.
    """
    if points.ndim != 1 + manifold.ndim:
        raise ValueError(
            f"frechet_mean: points have shape {points.shape}; one axis of points and {manifold.ndim} axes of {manifold.name} "
            "are needed (jax.vmap over sets of points)"
        )
    if weights is None:
        weights = jnp.ones(points.shape[0], points.dtype)
    if weights.shape != points.shape[:1]:
        raise ValueError(f"frechet_mean: weights have shape {weights.shape}; {points.shape[0]} points need ({points.shape[0]},)")
    weights = weights / jnp.sum(weights)

    def residual(flat: Float[Array, " k"]) -> Float[Array, " k"]:
        # In the directions normal to the manifold projx alone counts, so that the Jacobian is regular in the surrounding space.
        m = flat.reshape(points.shape[1:])
        on = manifold.projx(m)
        return (_pull(manifold, on, points, weights) + on - m).reshape(-1)

    def tangent_solve(linear, y):
        return jnp.linalg.solve(jax.jacobian(linear)(y), y)

    start = points[jnp.argmax(weights)].reshape(-1)
    frozen = jax.tree.map(jax.lax.stop_gradient, (manifold, points, weights))

    def solve(_, flat):
        return _descend(frozen[0], frozen[1], frozen[2], flat, max_iter)

    return jax.lax.custom_root(residual, start, solve, tangent_solve).reshape(points.shape[1:])


def frechet_variance(
    manifold: Manifold, points: Points, weights: Float[Array, " n"] | None = None
) -> tuple[Float[Array, "*point"], Float[Array, ""]]:
    """The mean m, and the variance Σ wᵢ d(m, xᵢ)² / Σ wᵢ."""
    mean = frechet_mean(manifold, points, weights)
    return mean, jnp.average(manifold.dist2(mean, points), weights=weights)


def _pull(manifold: Manifold, m: Float[Array, "*point"], points: Points, weights: Float[Array, " n"]) -> Float[Array, "*point"]:
    logs = jax.vmap(partial(manifold.logmap, m))(points)
    return jnp.tensordot(weights, logs, 1)


def _descend(
    manifold: Manifold, points: Points, weights: Float[Array, " n"], flat: Float[Array, " k"], max_iter: int
) -> Float[Array, " k"]:
    shape = points.shape[1:]
    eps = jnp.finfo(points.dtype).eps

    def gradient(m: Float[Array, "*point"]) -> tuple[Float[Array, "*point"], Float[Array, ""]]:
        g = _pull(manifold, m, points, weights)
        return g, manifold.norm(m, g)

    def unfinished(state: tuple) -> Array:
        _, (_, size), _, step, count = state
        return (count < max_iter) & (size > rest) & (step > 1e-6)

    def advance(state: tuple) -> tuple:
        m, (g, size), _, step, count = state
        candidate = manifold.expmap(m, step * g)
        found = gradient(candidate)
        better = found[1] < size
        m, g, size = (jnp.where(better, new, old) for new, old in zip((candidate, *found), (m, g, size)))
        return m, (g, size), better, jnp.where(better, jnp.minimum(1, 1.5 * step), 0.5 * step), count + 1

    m = flat.reshape(shape)
    first = gradient(m)
    rest = 4 * eps * jnp.sum(weights * manifold.dist(m, points))
    state = (m, first, jnp.asarray(True), jnp.ones((), points.dtype), jnp.asarray(0))
    return jax.lax.while_loop(unfinished, advance, state)[0].reshape(-1)
