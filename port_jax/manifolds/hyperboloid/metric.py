"""The metric of the hyperboloid -x0² + |xs|² = -k, x0 > 0, of curvature -1/k: projections, inner products, the chord, distances.

Pure functions of arrays, time coordinate first. A point is determined by its space part xs, and so is a tangent vector: their
time coordinates follow, x0 = sqrt(k + |xs|²), u0 = <xs, us>/x0. Where inner products of nearby or distant points would cancel, the
formulas use the space parts alone.

Ratcliffe, "Foundations of hyperbolic manifolds" (2006), chapter 3; Law et al., "Lorentzian distance learning" (2019).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.row_products import dot

__all__ = [
    "Chord",
    "chord",
    "dist",
    "dist0",
    "dist2",
    "egrad2rgrad",
    "inner",
    "inner0",
    "join",
    "norm",
    "project",
    "project_u",
    "tangent_norm2",
    "time_of",
]

Vector = Float[Array, "*batch d+1"]
Space = Float[Array, "*batch d"]
Scalar = Float[Array, "*batch 1"]
Number = Float[Array, "..."]


def inner(u: Vector, v: Vector) -> Scalar:
    """Minkowski inner product -u0 v0 + <us, vs>."""
    return dot(u[..., 1:], v[..., 1:]) - u[..., :1] * v[..., :1]


def inner0(v: Vector, k: Number) -> Scalar:
    """Minkowski inner product of v with the origin, -sqrt(k) v0."""
    return -jnp.sqrt(k) * v[..., :1]


def join(time: Scalar, space: Space) -> Vector:
    """The vector with this time coordinate and this space part; batches broadcast."""
    shape = jnp.broadcast_shapes(time.shape[:-1], space.shape[:-1])
    return jnp.concatenate([jnp.broadcast_to(time, (*shape, 1)), jnp.broadcast_to(space, (*shape, space.shape[-1]))], -1)


def time_of(space: Space, k: Number | float = 1.0) -> Scalar:
    """sqrt(k + |xs|²), without overflow of the square."""
    m = jnp.maximum(trig.binary_scale(space), 1)
    scaled = space / m
    return m * jnp.sqrt(k / m / m + dot(scaled, scaled))


def project(x: Vector, k: Number) -> Vector:
    """The point with the space part of x."""
    return join(time_of(x[..., 1:], k), x[..., 1:])


def project_u(x: Vector, v: Vector, k: Number) -> Vector:
    """Projection v + <x, v> x/k onto the tangent space at x; v itself where <x, v> is 0 to rounding.

    Far from the origin the rounding error of <x, v>, multiplied by x, would be longer than v. Where x0² exceeds k/eps, so would its
    contribution to derivatives, which is 0 along the tangent bundle.
    """
    normal = inner(x, v)
    terms = dot(jnp.abs(x), jnp.abs(v))
    # the bound on the rounding of a sum of d + 1 products: see `lorentz expmap` (far points), `lorentz proju` in accuracy/table.csv
    noise = jnp.abs(normal) <= x.shape[-1] * jnp.finfo(normal.dtype).eps * terms
    normal = normal - jax.lax.stop_gradient(jnp.where(noise, normal, 0))
    lost = noise & (x[..., :1] * jnp.finfo(normal.dtype).eps > k / x[..., :1])
    return v + jnp.where(lost, 0, normal / k) * jnp.where(lost, 1, x)


def tangent_norm2(x: Vector, u: Vector, k: Number) -> Scalar:
    """<u, u> of u tangent at x, from its space part: |us|² - <xs, us>²/x0², which far from the origin is computed as a sum of squares.

    Near the origin the second term is at most half of the first, whereas a radial part would have derivatives as large as 1/|xs|.
    """
    px, us = x[..., 1:] / jnp.sqrt(k), u[..., 1:]
    m = jnp.maximum(trig.binary_scale(px), 1)
    px = px / m
    t = time_of(px * m) / m
    p2, along = dot(px, px), dot(px, us)
    near = p2 * m * m < 1
    p2 = jnp.where(near, 1, p2)
    rest = us - along / p2 * px
    # the radial part is along²/p2; seen in the metric it is shorter by 1/x0, and 1/x0² = 1 - |xs|²/x0² = 1/(m t)²
    split = dot(rest, rest) + along * (along / p2) / (t * t * m * m)
    return jnp.where(near, dot(us, us) - (along / t) * (along / t), split)


def norm(x: Vector, u: Vector, k: Number) -> Scalar:
    """sqrt(<u, u>) of u tangent at x, with gradient 0 at u = 0."""
    return trig.sqrt_or_zero(tangent_norm2(x, u, k))


def egrad2rgrad(x: Vector, grad: Vector, k: Number) -> Vector:
    """The Euclidean gradient with the sign of its time coordinate changed, projected onto the tangent space."""
    return project_u(x, join(-grad[..., :1], grad[..., 1:]), k)


class Chord(NamedTuple):
    """Two points on the unit hyperboloid, by their space parts, and the chord between them."""

    x: Space
    y: Space
    tx: Scalar
    ty: Scalar
    w: Space
    """y - x, from the difference of the given coordinates."""
    s: Scalar
    """sinh²(d/2), a quarter of the chord's Minkowski square."""


def chord(x: Vector, y: Vector, k: Number) -> Chord:
    """The chord from x to y.

    With w = ys - xs on the unit hyperboloid, |y - x|² = (4|w|² + 4|xs ∧ ys|²)/(2 + 2(x0 y0 + <xs, ys>)), free of cancellation when
    <xs, ys> >= 0; for far points on opposite sides it is 2(x0 y0 - <xs, ys> - 1).
    """
    r = jnp.sqrt(k)
    px, py = x[..., 1:] / r, y[..., 1:] / r
    w = (y[..., 1:] - x[..., 1:]) / r
    tx, ty = time_of(px), time_of(py)
    cos, tt = dot(trig.over(px, tx), trig.over(py, ty)), tx * ty  # cos is <xs, ys>/(x0 y0): the products can overflow
    # |xs ∧ ys| = |p ∧ w| for the point p nearer to the origin: the longer of p and w times the part of the shorter orthogonal to it
    p = jnp.where(tx < ty, px, py)
    w_long = dot(w, w) > dot(p, p)
    longer, shorter = jnp.where(w_long, w, p), jnp.where(w_long, p, w)
    m = trig.binary_scale(longer)
    unit = longer / m
    unit2 = dot(unit, unit)
    rest = shorter - dot(shorter, unit) / jnp.where(unit2 > 0, unit2, 1) * unit
    opposite = (cos < 0) & (tt > 2)
    far = jnp.where(opposite, tt, 1)
    g = jnp.sqrt(tx) * jnp.sqrt(ty) * jnp.sqrt(2 / tx / ty + 2 * (1 + jnp.where(opposite, 0, cos)))
    wide = trig.sqrt_or_zero(unit2) * m / g * rest
    wg = trig.over(w, g)
    near = 4 * (dot(wg, wg) + dot(wide, wide))
    return Chord(px, py, tx, ty, w, jnp.where(opposite, 2 * (far * (1 - cos) - 1), near) / 4)


def _ambient(s: Scalar, value: Scalar, resolved: Array) -> Scalar:
    """The number s with the derivatives of `value`, an expression that equals it on the manifold, where that is `resolved`."""
    value = jnp.where(resolved, value, 0)
    return jnp.where(resolved, jax.lax.stop_gradient(s) + (value - jax.lax.stop_gradient(value)), s)


def _sinh2(x: Vector, y: Vector, k: Number) -> Scalar:
    """sinh²(d/2), differentiated as (-<x, y>/k - 1)/2 in all coordinates, time included, where that keeps half of the digits."""
    c = chord(x, y, k)
    # half of the digits: the rows `lorentz dist d/dx` of accuracy/table.csv have cases on both sides
    resolved = c.s > jnp.sqrt(jnp.finfo(c.s.dtype).eps) * c.tx * c.ty
    x, y = jnp.where(resolved, x, 0), jnp.where(resolved, y, 0)  # elsewhere the product can overflow, first of all in its derivative by k
    return _ambient(c.s, (-inner(x, trig.over(y, k)) - 1) / 2, resolved)


def dist(x: Vector, y: Vector, k: Number) -> Scalar:
    """Geodesic distance sqrt(k) arcosh(-<x, y>/k), from the chord; gradient 0 where x = y."""
    return jnp.sqrt(k) * trig.arcosh1p(2 * _sinh2(x, y, k))


def dist2(x: Vector, y: Vector, k: Number) -> Scalar:
    """Squared distance, smooth where x = y."""
    s = _sinh2(x, y, k)
    ratio = trig.arsinh_ratio(-s)
    return 4 * k * s * ratio * ratio


def dist0(x: Vector, k: Number) -> Scalar:
    """Distance to the origin sqrt(k) arcosh(x0/sqrt(k)), from the space part; differentiated in x0 where that keeps half of the digits."""
    r = jnp.sqrt(k)
    space = x[..., 1:] / r
    t, m = time_of(space), trig.binary_scale(space)
    s = m / (1 + t) * m * dot(space / m, space / m) / 2  # (t - 1)/2 = sinh²(d/2)
    # half of the digits: the rows `lorentz dist0 d/dx` of accuracy/table.csv have cases on both sides
    s = _ambient(s, (x[..., :1] / r - 1) / 2, s > jnp.sqrt(jnp.finfo(s.dtype).eps))
    return r * trig.arcosh1p(2 * s)
