"""Riemannian geometry of any metric, by automatic differentiation: connection, curvature, geodesics, parallel transport.

A metric is a function from coordinates `[d]` to a symmetric positive definite matrix `[d, d]`. One that depends on parameters
closes over them with `jax.tree_util.Partial`, and everything below differentiates through it:

    ball = PoincareBall(c)
    metric = jax.tree_util.Partial(metric_of, ball)          # ball's own coordinates
    sectional_curvature(metric, x, u, v)                     # -c

Index conventions: Γ[k, i, j] = Γᵏᵢⱼ;  R[l, i, j, k] = Rˡᵢⱼₖ, with R(∂ⱼ, ∂ₖ)∂ᵢ = Rˡᵢⱼₖ ∂ₗ (Lee, "Introduction to Riemannian
manifolds", 2018, up to the order of indices).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental.ode import odeint
from jaxtyping import Array, Float

from port_jax.manifolds.base import Manifold

__all__ = ["christoffel", "geodesic", "metric_of", "parallel_transport", "ricci", "riemann", "scalar_curvature", "sectional_curvature"]

Coordinates = Float[Array, " d"]
Metric = Callable[[Coordinates], Float[Array, "d d"]]
Chart = Callable[[Coordinates], Float[Array, "..."]]


def metric_of(manifold: Manifold, q: Coordinates, chart: Chart = lambda q: q) -> Float[Array, "d d"]:
    """gᵢⱼ(q) = ⟨∂ᵢ, ∂ⱼ⟩ at chart(q), from the manifold's `inner`; `chart` maps coordinates to points."""
    point, push = jax.linearize(chart, q)
    frame = jax.vmap(push)(jnp.eye(q.shape[0], dtype=q.dtype))
    return jax.vmap(lambda u: jax.vmap(lambda v: manifold.inner(point, u, v))(frame))(frame)


def christoffel(metric: Metric, x: Coordinates) -> Float[Array, "d d d"]:
    """Γᵏᵢⱼ = gᵏˡ (∂ᵢ gⱼₗ + ∂ⱼ gᵢₗ - ∂ₗ gᵢⱼ)/2."""
    dg = jax.jacfwd(metric)(x)
    lowered = 0.5 * (jnp.einsum("jli->lij", dg) + jnp.einsum("ilj->lij", dg) - jnp.einsum("ijl->lij", dg))
    return jnp.linalg.solve(metric(x), lowered.reshape(x.shape[0], -1)).reshape(lowered.shape)


def riemann(metric: Metric, x: Coordinates) -> Float[Array, "d d d d"]:
    """Rˡᵢⱼₖ = ∂ⱼ Γˡₖᵢ - ∂ₖ Γˡⱼᵢ + Γˡⱼₘ Γᵐₖᵢ - Γˡₖₘ Γᵐⱼᵢ."""
    gamma = christoffel(metric, x)
    dgamma = jax.jacfwd(partial(christoffel, metric))(x)
    half = jnp.einsum("lkij->lijk", dgamma) + jnp.einsum("ljm,mki->lijk", gamma, gamma)
    return half - jnp.swapaxes(half, -1, -2)


def ricci(metric: Metric, x: Coordinates) -> Float[Array, "d d"]:
    """Ricᵢₖ = Rʲᵢⱼₖ."""
    return jnp.einsum("jijk->ik", riemann(metric, x))


def scalar_curvature(metric: Metric, x: Coordinates) -> Float[Array, ""]:
    """The trace of the Ricci curvature, gⁱᵏ Ricᵢₖ."""
    return jnp.trace(jnp.linalg.solve(metric(x), ricci(metric, x)))


def sectional_curvature(metric: Metric, x: Coordinates, u: Coordinates, v: Coordinates) -> Float[Array, ""]:
    """⟨R(u, v)v, u⟩ / (‖u‖²‖v‖² - ⟨u, v⟩²) of the plane spanned by u and v."""
    g = metric(x)
    image = jnp.einsum("lijk,i,j,k->l", riemann(metric, x), v, u, v)
    return (u @ g @ image) / ((u @ g @ u) * (v @ g @ v) - (u @ g @ v) ** 2)


def geodesic(
    metric: Metric, x: Coordinates, u: Coordinates, t: Float[Array, ""] | float = 1.0, *, tol: float = 1e-9
) -> tuple[Coordinates, Coordinates]:
    """Position and velocity at time t of the geodesic from x with velocity u: ẍᵏ = -Γᵏᵢⱼ ẋⁱẋʲ.

    Dormand and Prince's method with relative and absolute tolerance `tol`; reverse mode goes through the adjoint equation.
    """

    def flow(state: tuple[Coordinates, Coordinates], _: Array, metric: Metric) -> tuple[Coordinates, Coordinates]:
        position, velocity = state
        return velocity, -jnp.einsum("kij,i,j->k", christoffel(metric, position), velocity, velocity)

    return _integrate(flow, (x, u), t, metric, tol)


def parallel_transport(
    metric: Metric,
    x: Coordinates,
    u: Coordinates,
    v: Coordinates,
    t: Float[Array, ""] | float = 1.0,
    *,
    tol: float = 1e-9,
) -> Coordinates:
    """v carried along the geodesic of u to time t: v̇ᵏ = -Γᵏᵢⱼ ẋⁱvʲ."""

    def flow(state: tuple[Coordinates, ...], _: Array, metric: Metric) -> tuple[Coordinates, ...]:
        position, velocity, vector = state
        pull = jnp.einsum("kij,i->kj", christoffel(metric, position), velocity)
        return velocity, -pull @ velocity, -pull @ vector

    return _integrate(flow, (x, u, v), t, metric, tol)[2]


def _integrate(flow: Callable, state: tuple, t: Float[Array, ""] | float, metric: Metric, tol: float) -> tuple:
    dtype = state[0].dtype
    times = jnp.stack([jnp.zeros((), dtype), jnp.asarray(t, dtype)])
    if isinstance(metric, jax.tree_util.Partial):
        path = odeint(flow, state, times, metric, rtol=tol, atol=tol)
    else:
        path = odeint(lambda y, s: flow(y, s, metric), state, times, rtol=tol, atol=tol)
    return tuple(part[-1] for part in path)
