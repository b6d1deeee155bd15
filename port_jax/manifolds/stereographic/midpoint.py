"""The weighted gyro-midpoint of the stereographic model of curvature k."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.row_products import dot
from port_jax.manifolds.signed import Signed, as_curvature
from port_jax.manifolds.stereographic.gyrogroup import antipode, mobius_scalar_mul
from port_jax.manifolds.stereographic.metric import conformal, dist

__all__ = ["weighted_midpoint"]

Vector = Float[Array, "*batch d"]
Scalar = Float[Array, "*batch 1"]
Number = Float[Array, "..."]


def weighted_midpoint(
    xs: Vector,
    weights: Float[Array, "..."] | None,
    k: Signed,
    *,
    reducedim: Sequence[int] | None = None,
    keepdim: bool = False,
    lincomb: bool = False,
    posweight: bool = False,
) -> Vector:
    """Gyro-midpoint: m = sum w lambda x / sum w (lambda - 1), then half of m along its ray, m/(1 + sqrt(1 + k|m|²)).

    weights has the shape of xs without the last axis (or broadcasts to it). `lincomb` multiplies by the sum of the weights, `posweight`
    replaces negative weights by positive ones at the antipode. For k > 0 the nearer of midpoint and antipode is taken.
    Bachmann et al. (2020), definition 3.1.
    """
    c = as_curvature(k)
    k, xs = c.value, jnp.asarray(xs)
    axes = tuple(range(xs.ndim - 1)) if reducedim is None else tuple(d % xs.ndim for d in reducedim)
    w = jnp.ones((), xs.dtype) if weights is None else jnp.asarray(weights, xs.dtype)[..., None]
    if posweight:
        xs = jnp.where(w < 0, antipode(xs, k), xs)
        w = jnp.where(w < 0, -w, w)
    a = conformal(xs, k)
    denominator = jnp.sum((2 - a) / a * w, axes, keepdims=True)
    numerator = jnp.sum(2 / a * w * xs, axes, keepdims=True)
    # m/(1 + sqrt(1 + k|m|²)) with m = numerator/denominator, free of the division by a denominator near 0
    root = _root(denominator, numerator, a, w, xs, k, axes)
    total = jnp.where(denominator < 0, denominator - root, denominator + root)
    middle = trig.over(numerator, jnp.where(total == 0, 1, total))
    if c.spherical:
        other = antipode(middle, k)
        here = jnp.sum(dist(middle, xs, k), axes, keepdims=True)
        there = jnp.sum(dist(other, xs, k), axes, keepdims=True)
        middle = jnp.where((k > 0) & (there < here), other, middle)
    if lincomb:
        alpha = jnp.sum(jnp.broadcast_to(w, jnp.broadcast_shapes(w.shape, a.shape)), axes, keepdims=True)
        middle = mobius_scalar_mul(alpha, middle, c)
    return middle if keepdim else jnp.squeeze(middle, axes)


def _root(denominator: Scalar, numerator: Vector, a: Scalar, w: Array, xs: Vector, k: Number, axes: tuple[int, ...]) -> Scalar:
    """sqrt(denominator² + k|numerator|²), 0 where that is negative.

    On the hyperboloid these are the time and space part of M = sum w (t_i, n_i). Where they nearly agree, their difference is the sum of
    w (t_i - <n_i, e>) = w (1 + |n_i orthogonal to e|²)/(t_i + <n_i, e>), with e the unit vector along the space part of M.
    """
    square = k * dot(numerator, numerator)
    plain = denominator * denominator + square
    cancels = (k < 0) & (plain < -0.5 * square)
    length = jnp.sqrt(jnp.where(cancels, -square, 1))
    scale = jnp.sqrt(jnp.where(k < 0, -k, 1))
    e = jnp.where(cancels, scale * numerator / length, 0)
    e = e * jnp.where(denominator < 0, -1, 1)
    t, n = (2 - a) / a, scale * 2 / a * xs
    along = dot(n, e)
    across = n - along * e
    ahead = cancels & (along > 0)
    gap = jnp.where(ahead, (1 + dot(across, across)) / jnp.where(ahead, t + along, 1), t - along)
    split = jnp.abs(jnp.sum(w * gap, axes, keepdims=True)) * (jnp.abs(denominator) + length)
    return trig.sqrt_or_zero(jnp.where(cancels, split, plain))
