"""Gyrovector algebra, hyperplanes and means of the hyperboloid -x0² + |xs|² = -k: pure functions of arrays, time first.

Each is the ball's operation carried over by the isometry between the models, in the hyperboloid's own coordinates. With the origin
o = (√k, 0),

    x ⊕ y = exp_x(PT_{o→x} log_o y),   r ⊗ x = exp_o(r log_o x),   M ⊗ x = exp_o(M log_o x).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.hyperboloid.geodesics import expmap0, logmap0
from port_jax.manifolds.hyperboloid.metric import inner, join, norm, project, project_u
from port_jax.manifolds.isometries import lorentz_to_poincare
from port_jax.manifolds.row_products import dot
from port_jax.manifolds.signed import Curvature
from port_jax.manifolds.stereographic import gyrogroup as ball

__all__ = [
    "centroid",
    "dist2plane",
    "gyration",
    "mobius_add",
    "mobius_coadd",
    "mobius_matvec",
    "mobius_neg",
    "mobius_pointwise_mul",
    "mobius_scalar_mul",
    "weighted_midpoint",
]

Vector = Float[Array, "*batch d+1"]
Space = Float[Array, "*batch d"]
Scalar = Float[Array, "*batch 1"]
Number = Float[Array, "..."]


def mobius_add(x: Vector, y: Vector, k: Number) -> Vector:
    """x ⊕ y: y carried by the translation that takes the origin to x, a Lorentz boost of y.

    With B the boost, (B y)₀ = (x₀y₀ + ⟨x', y'⟩)/√k, (B y)' = y' + x' (y₀ + ⟨x', y'⟩/(x₀ + √k))/√k for space parts x', y'. No
    Minkowski norm of a long vector is computed, so that the digits are kept far from the origin.
    """
    root = jnp.sqrt(k)
    overlap = dot(x[..., 1:], y[..., 1:])
    return _lift(y[..., 1:] + x[..., 1:] * ((y[..., :1] + overlap / (x[..., :1] + root)) / root), k)


def mobius_neg(x: Vector) -> Vector:
    """⊖x: the space part reversed."""
    return jnp.concatenate([x[..., :1], -x[..., 1:]], -1)


def mobius_coadd(x: Vector, y: Vector, k: Number) -> Vector:
    """x ⊞ y = x ⊕ gyr[x, ⊖y] y, the commutative addition."""
    return mobius_add(x, gyration(x, mobius_neg(y), y, k), k)


def gyration(x: Vector, y: Vector, z: Vector, k: Number) -> Vector:
    """gyr[x, y] z: the space part of z, rotated as by the gyration of the points of the ball that belong to x and y."""
    p, q = lorentz_to_poincare(x, k), lorentz_to_poincare(y, k)
    unit = Curvature(jnp.full((), -1, p.dtype), spherical=False)
    return join(z[..., :1], ball.gyration(p, q, z[..., 1:], unit))


def mobius_scalar_mul(r: Number, x: Vector, k: Number) -> Vector:
    """r ⊗ x: the point at r times the distance from the origin along the same ray; r broadcasts with length 1 on the last axis."""
    return expmap0(r * logmap0(x, k), k)


def mobius_matvec(m: Float[Array, "*batch e d"], x: Vector, k: Number) -> Float[Array, "*batch e+1"]:
    """M ⊗ x: the matrix applied to the space part of the tangent vector at the origin."""
    return _exp_space(jnp.einsum("...ij,...j->...i", m, logmap0(x, k)[..., 1:]), k)


def mobius_pointwise_mul(w: Float[Array, "..."], x: Vector, k: Number) -> Vector:
    """The diagonal matrix of w, of d entries, applied to the space part of the tangent vector at the origin."""
    return _exp_space(w * logmap0(x, k)[..., 1:], k)


def dist2plane(x: Vector, p: Vector, a: Vector, k: Number, *, signed: bool = False, scaled: bool = False) -> Scalar:
    """Distance from x to the hyperplane through p with normal a, tangent at p: √k arsinh(⟨x, a⟩_L/(√k |a|_L)).

    The hyperplane is {x : ⟨x, a⟩_L = 0}. ⟨x, a⟩_L is taken as ⟨x - p, a⟩_L, which keeps its digits near p.
    """
    a = project_u(p, a, k)
    length = norm(p, a, k)
    ratio = inner(x - p, a) / jnp.where(length > 0, length, 1)
    distance = ratio * trig.arsin_ratio(-ratio * ratio / k)
    # |d| as d sign(d), with derivative 0 on the hyperplane itself.
    distance = distance if signed else distance * jnp.sign(distance)
    return distance * length if scaled else distance


def weighted_midpoint(
    xs: Vector,
    weights: Float[Array, "..."] | None,
    k: Number,
    *,
    reducedim: Sequence[int] | None = None,
    keepdim: bool = False,
    lincomb: bool = False,
    posweight: bool = False,
) -> Vector:
    """√k M/|M|_L with M = Σ wᵢxᵢ: the minimum of Σ wᵢ(-⟨m, xᵢ⟩_L) (Law et al. 2019, theorem 3.3), the ball's gyro-midpoint.

    weights has the shape of xs without the last axis (or broadcasts to it). `lincomb` multiplies by the sum of the weights, `posweight`
    replaces negative weights by positive ones at the opposite point.
    """
    xs = jnp.asarray(xs)
    axes = tuple(range(xs.ndim - 1)) if reducedim is None else tuple(d % xs.ndim for d in reducedim)
    w = jnp.ones(xs.shape[:-1], xs.dtype)[..., None] if weights is None else jnp.asarray(weights, xs.dtype)[..., None]
    if posweight:
        xs, w = jnp.where(w < 0, mobius_neg(xs), xs), jnp.abs(w)
    middle = centroid(jnp.sum(w * xs, axes, keepdims=True), k)
    if lincomb:
        alpha = jnp.sum(jnp.broadcast_to(w, (*jnp.broadcast_shapes(w.shape[:-1], xs.shape[:-1]), 1)), axes, keepdims=True)
        middle = mobius_scalar_mul(alpha, middle, k)
    return middle if keepdim else jnp.squeeze(middle, axes)


def centroid(total: Vector, k: Number | float) -> Vector:
    """√k M/|M|_L for a sum M = Σ wᵢxᵢ of points with weights, turned to the future where it points to the past."""
    k = jnp.asarray(k, total.dtype)
    total = jnp.where(total[..., :1] < 0, -total, total)
    # -|M|²_L = t² - s², as a product that keeps its digits far from the origin.
    size = trig.sqrt_or_zero(dot(total[..., 1:], total[..., 1:]))
    length = trig.sqrt_or_zero((total[..., :1] - size) * (total[..., :1] + size))
    return _lift(total[..., 1:] * (jnp.sqrt(k) / jnp.where(length > 0, length, 1)), k)


def _exp_space(v: Space, k: Number) -> Vector:
    """exp_o of the tangent vector at the origin with space part v."""
    return expmap0(jnp.concatenate([jnp.zeros_like(v[..., :1]), v], -1), k)


def _lift(space: Space, k: Number) -> Vector:
    """The point with these space coordinates."""
    return project(jnp.concatenate([jnp.zeros_like(space[..., :1]), space], -1), k)
