"""The hyperboloid by space parts alone, and its entailment cones, as MERU and HyCoCLIP have them (arXiv 2304.09172).

A point is x = (x_t, x_s) with x_t² = 1/c + |x_s|², curvature -c, and only x_s, of E numbers, is handed on: `Lorentz(1 / c)` has the same
points with their time coordinate in front. Names, the order of arguments and the bounds are those of the authors' `lorentz.py`, so that
training goes on as it began; derivatives are finite where theirs are not. c is a number or [].
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.hyperboloid.metric import time_of
from port_jax.manifolds.row_products import dot

__all__ = ["EPS", "FARTHEST", "RADIUS", "exp_map0", "half_aperture", "log_map0", "oxy_angle", "pairwise_dist", "pairwise_inner"]

EPS = 1e-8
"""The authors' bound: of distances acosh(1 + EPS), of sines and cosines 1 - EPS. In float32 both are 1."""
FARTHEST = math.asinh(2.0**15)
"""The largest sqrt(c) d(0, exp_map0(v))."""
RADIUS = 0.1
"""K of the cones: inside of about 2 K / sqrt(c) around the origin the aperture stays π/2."""

Space = Float[Array, "*batch d"]
Number = Float[Array, ""] | float


def exp_map0(x: Space, curv: Number) -> Space:
    """The space part of exp_0: sinh(min(r, FARTHEST)) x/r with r = sqrt(c) |x|; x itself to first order at 0."""
    square = curv * dot(x, x)
    far = square > FARTHEST**2
    near = trig.sin_ratio(-jnp.where(far, 0, square))
    return x * jnp.where(far, math.sinh(FARTHEST) / jnp.sqrt(jnp.where(far, square, 1)), near)


def log_map0(x: Space, curv: Number) -> Space:
    """The inverse of `exp_map0`: arsinh(r) x/r with r = sqrt(c) |x|, right at and near the origin, where the authors' arcosh loses all
    digits."""
    return x * trig.arsinh_ratio(-curv * dot(x, x))


def pairwise_inner(x: Float[Array, "n d"], y: Float[Array, "m d"], curv: Number) -> Float[Array, "n m"]:
    """<x_i, y_j> = x_i · y_j - x_t y_t for all i and j, between -∞ and -1/c. One product of matrices, in the arrays' full precision."""
    return jnp.matmul(x, y.T, precision="highest") - time_of(x, 1 / curv) * time_of(y, 1 / curv).T


def pairwise_dist(x: Float[Array, "n d"], y: Float[Array, "m d"], curv: Number) -> Float[Array, "n m"]:
    """arcosh(max(-c <x_i, y_j>, 1 + EPS)) / sqrt(c) for all i and j, with derivative 0 at the bound.

    That is what their losses are made of. Where points are nearly the same, this is the root of rounding errors, or acosh(1 + EPS), and
    `port_jax.pairwise.pairwise_dist(Lorentz(1 / c), ...)` is right.
    """
    return trig.arcosh(jnp.maximum(-curv * pairwise_inner(x, y, curv), 1 + EPS)) / jnp.sqrt(curv)


def half_aperture(x: Space, curv: Number) -> Float[Array, "*batch"]:
    """arcsin(2 K / (sqrt(c) |x|)), the half angle of the entailment cone at x, which opens away from the origin (equation 5)."""
    length = trig.sqrt_or_zero(jnp.sum(x * x, -1))
    sine = 2 * RADIUS / (length * jnp.sqrt(curv) + EPS)
    inside = sine < 1 - EPS
    return jnp.where(inside, jnp.arcsin(jnp.where(inside, sine, 0)), jnp.arcsin(jnp.asarray(1 - EPS, sine.dtype)))


def oxy_angle(x: Space, y: Space, curv: Number) -> Float[Array, "*batch"]:
    """π less the angle at x of the triangle of the origin O, x and y: 0 where y lies beyond x as seen from O (equation 6).

        cos = (y_t + w x_t) / (|x| sqrt(w² - 1)),   w = c <x, y>

    The numerator is written c (x_t x · y - |x|² y_t), whose terms do not cancel near O. The cosine is kept between -1 + EPS and 1 - EPS
    with derivative 0 beyond; x and y broadcast.
    """
    x_t, y_t = time_of(x, 1 / curv)[..., 0], time_of(y, 1 / curv)[..., 0]
    product, square = jnp.sum(x * y, -1), jnp.sum(x * x, -1)
    w = curv * (product - x_t * y_t)
    apart = (w - 1) * (w + 1)
    below = trig.sqrt_or_zero(square) * jnp.sqrt(jnp.maximum(apart, EPS)) + EPS
    cosine = curv * (x_t * product - square * y_t) / below
    low, high = (jnp.asarray(bound, cosine.dtype) for bound in (-1 + EPS, 1 - EPS))
    inside = (cosine > low) & (cosine < high)
    return jnp.where(inside, jnp.arccos(jnp.where(inside, cosine, 0)), jnp.arccos(jnp.where(cosine > 0, high, low)))
