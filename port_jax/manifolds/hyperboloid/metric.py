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
from port_jax.primitives import where

__all__ = [
    "Chord",
    "arsinh_norm",
    "axis_scale",
    "chord",
    "dist",
    "dist0",
    "dist2",
    "egrad2rgrad",
    "half_angle",
    "inner",
    "inner0",
    "inverse_binary",
    "join",
    "norm",
    "project",
    "project_u",
    "shrinking",
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


def _largest(x: Array) -> Scalar:
    """The largest entry by absolute value along the last axis, a constant for differentiation."""
    return jax.lax.stop_gradient(jnp.max(jnp.abs(x), -1, keepdims=True))


def _binary(x: Array) -> Array:
    """The power of two nearest to x > 0."""
    return jax.lax.reduce_precision(x, jnp.finfo(x.dtype).nexp, 0)


def inverse_binary(x: Array) -> Array:
    """The power of two nearest to 1/x, for x > 0; a constant for differentiation, normal for each x.

    Scales are multiplied by rather than divided by: XLA merges a/b/c into a/(b c), which overflows.
    """
    info = jnp.finfo(x.dtype)
    return jax.lax.stop_gradient(jax.lax.reduce_precision(1 / jnp.minimum(x, 2.0 ** (info.maxexp - 2)), info.nexp, 0))


def shrinking(x: Vector, k: Number) -> Scalar:
    """1, or for a point so far from the origin that products of two of its coordinates could overflow the power of two nearest to 1/|x|."""
    largest = _largest(x)
    far = largest > 2.0 ** (jnp.finfo(x.dtype).maxexp // 5) * jnp.sqrt(k)
    return inverse_binary(jnp.where(far, largest, 1))


def axis_scale(x: Vector) -> Scalar:
    """`trig.binary_scale` of x near the origin, and far from it the largest entry itself.

    Division by that takes vectors on an axis to exactly 1, so that nothing is left of them across it. Far from the origin a rounding error
    across is longer than all that lies along.
    """
    largest = _largest(x)
    return jnp.where(largest > 2.0**10, largest, _binary(jnp.where(largest > 0, largest, 2) / 2))


def project_u(x: Vector, v: Vector, k: Number) -> Vector:
    """Projection v + <x, v> x/k onto the tangent space at x; v itself where <x, v> is 0 to rounding.

    Far from the origin the rounding error of <x, v>, multiplied by x, would be longer than v. Where x0² exceeds k/eps, so would its
    contribution to derivatives, which is 0 along the tangent bundle.
    """
    e = jnp.where(_largest(v) > 1, shrinking(x, k), 1)  # short gradients would underflow
    scaled = x * e
    normal = inner(scaled, v)
    terms = dot(jnp.abs(scaled), jnp.abs(v))
    # the bound on the rounding of a sum of d + 1 products: see `lorentz expmap` (far points), `lorentz proju` in accuracy/table.csv
    noise = jnp.abs(normal) <= x.shape[-1] * jnp.finfo(normal.dtype).eps * terms
    normal = normal - jax.lax.stop_gradient(jnp.where(noise, normal, 0))
    lost = noise & (x[..., :1] * jnp.finfo(normal.dtype).eps > k / x[..., :1])
    return v + jnp.where(lost, 0, normal * (1 / e) / k) * jnp.where(lost, 1, x)


def tangent_norm2(x: Vector, u: Vector, k: Number) -> Scalar:
    """<u, u> of u tangent at x, from its space part: |us|² - <xs, us>²/x0², which far from the origin is computed as a sum of squares.

    Near the origin the second term is at most half of the first, whereas a radial part would have derivatives as large as 1/|xs|.
    """
    r, us = jnp.sqrt(k), u[..., 1:]
    size = axis_scale(x[..., 1:])
    far = size > 2.0**10 * r
    px = trig.over(x[..., 1:], jnp.where(far, size, r))
    m = jnp.maximum(trig.binary_scale(px), 1)
    px = px / m
    ratio = trig.over(r, size)
    t = time_of(px * m, jnp.where(far, ratio * ratio, 1)) / m
    p2, along = dot(px, px), dot(px, us)
    near = p2 * m * m < jnp.where(far, 0, 1)
    p2 = jnp.where(near, 1, p2)
    rest = us - along / p2 * px
    # the radial part is along²/p2; seen in the metric it is shorter by sqrt(k)/x0, and 1/x0² = 1/k - |xs|²/(k x0²)
    radial = where(far, trig.over(along, size) * r, along) / (t * m)
    return where(near, dot(us, us) - (along / t) * (along / t), dot(rest, rest) + radial * (radial / p2))


def norm(x: Vector, u: Vector, k: Number) -> Scalar:
    """sqrt(<u, u>) of u tangent at x, with gradient 0 at u = 0."""
    return trig.sqrt_or_zero(tangent_norm2(x, u, k))


def egrad2rgrad(x: Vector, grad: Vector, k: Number) -> Vector:
    """The Euclidean gradient with the sign of its time coordinate changed, projected onto the tangent space."""
    return project_u(x, join(-grad[..., :1], grad[..., 1:]), k)


class Chord(NamedTuple):
    """Two points and the chord between them, by their space parts, on the hyperboloid of radius h.

    h is 1 where the coordinates of the unit hyperboloid fit the dtype with room for a factor, and otherwise a smaller power of two.
    """

    x: Space
    y: Space
    tx: Scalar
    ty: Scalar
    w: Space
    """y - x, from the difference of the given coordinates."""
    h: Scalar
    e: Scalar
    """1/h, or where squares could overflow the power of two nearest to 1/(h sinh(d/2)). It is multiplied by, as XLA merges divisions."""
    sinh2: Scalar
    """(h e)² sinh²(d/2), where sinh²(d/2) is a quarter of the chord's Minkowski square on the unit hyperboloid."""

    @property
    def far(self) -> Array:
        """Where `sinh2` is not sinh²(d/2) itself."""
        return self.e * self.h < 1

    @property
    def s(self) -> Scalar:
        """sinh²(d/2), infinite where it overflows."""
        return self.sinh2 / (self.h * self.e) / (self.h * self.e)


def _room(x: Vector, y: Vector, r: Number) -> Array:
    """A power of two h for which the coordinates of h x/r and h y/r do not overflow: 1 unless one of x/r and y/r nearly does."""
    spare = jnp.finfo(x.dtype).maxexp // 8
    unit = jax.lax.stop_gradient(jnp.minimum(r, 1))
    huge = jnp.maximum(_largest(x), _largest(y)) > 2.0 ** (7 * spare) * unit
    return jnp.where(huge, 2.0**-spare * _binary(unit), 1).astype(x.dtype)


def chord(x: Vector, y: Vector, k: Number) -> Chord:
    """The chord from x to y.

    With w = ys - xs on the unit hyperboloid, sinh²(d/2) = (|w|² + |xs ∧ ys|²)/(2 + 2(x0 y0 + <xs, ys>)), free of cancellation when
    <xs, ys> >= 0; for far points on opposite sides it is (x0 y0 - <xs, ys> - 1)/2.
    """
    r = jnp.sqrt(k)
    x, y = x[..., 1:], y[..., 1:]
    h = _room(x, y, r)
    x, y = x * h, y * h
    px, py, w = x / r, y / r, (y - x) / r
    tx, ty = time_of(px, h * h), time_of(py, h * h)
    cos = dot(trig.over(px, tx), trig.over(py, ty))  # <xs, ys>/(x0 y0): the products can overflow
    # |xs ∧ ys| = |p ∧ w| for the point p nearer to the origin: the longer of p and w times the part of the shorter orthogonal to it
    p = jnp.where(tx < ty, px, py)
    length = _largest(w)
    w_long = length > _largest(p)
    longer, shorter = jnp.where(w_long, w, p), jnp.where(w_long, p, w)
    size = axis_scale(longer)
    unit = trig.over(longer, size)
    unit2 = dot(unit, unit)
    rest = shorter - dot(shorter, unit) / jnp.where(unit2 > 0, unit2, 1) * unit
    opposite = (cos < 0) & ((tx / h) * (ty / h) > 2)
    g = jnp.sqrt(tx) * jnp.sqrt(ty) * jnp.sqrt(2 * h * h / tx / ty + 2 * (1 + jnp.where(opposite, 0, cos)))
    wide = trig.over(trig.sqrt_or_zero(unit2) * size, g)
    across = _largest(rest)
    # s itself is as good as its logarithm up to where one of them has all digits, and squares of s do not overflow
    info = jnp.finfo(x.dtype)
    sinh = jax.lax.stop_gradient(jnp.where(opposite, jnp.sqrt(tx) * jnp.sqrt(ty), jnp.maximum(wide * across, trig.over(length, g) * h)))
    long = sinh > 2.0 ** max(info.maxexp // 5, info.nmant // 2) * h
    e = inverse_binary(jnp.where(long, sinh, h))
    e_rest = inverse_binary(jnp.where(long & (across > 0), across, 1))
    wg, rest = trig.over(w, g) * (h * e), (wide * (e / e_rest)) * (rest * e_rest)
    near = dot(wg, wg) + dot(rest, rest)
    # x0 y0 e²: each factor is scaled to order one, as the derivative by the other one is longer by it
    # by one choice: where tx = ty, minimum and maximum would each have the mean of the derivatives, and their product a wrong second one
    first = tx < ty
    nearer, farther = jnp.where(opposite, jnp.where(first, tx, ty), h), jnp.where(opposite, jnp.where(first, ty, tx), h)
    e_far = jnp.where(opposite, e, 1)
    e_near = inverse_binary(jnp.where(opposite, nearer, 1))
    far = (nearer * e_near) * (farther * e_far * (e_far / e_near))
    return Chord(px, py, tx, ty, w, h, e, jnp.where(opposite, (far * (1 - cos) - (h * e) * (h * e)) / 2, near))


def _ambient(s: Scalar, value: Scalar, resolved: Array) -> Scalar:
    """The number s with the derivatives of `value`, an expression that equals it on the manifold, where that is `resolved`."""
    value = jnp.where(resolved, value, 0)
    return jnp.where(resolved, jax.lax.stop_gradient(s) + (value - jax.lax.stop_gradient(value)), s)


def _between(x: Vector, y: Vector, k: Number) -> Chord:
    """The chord, with sinh²(d/2) differentiated as (-<x, y>/k - 1)/2 in all coordinates, time included, where half the digits stay."""
    c = chord(x, y, k)
    # half of the digits: the rows `lorentz dist d/dx` of accuracy/table.csv have cases on both sides
    resolved = c.sinh2 > jnp.sqrt(jnp.finfo(c.sinh2.dtype).eps) * (c.tx * c.e) * (c.ty * c.e)
    # elsewhere the product can overflow, first of all in its derivative by k
    x, y = (jnp.where(resolved, a, 0) * c.h * c.e for a in (x, y))
    ambient = (-inner(x, trig.over(y, k)) - (c.h * c.e) * (c.h * c.e)) / 2
    return c._replace(sinh2=_ambient(c.sinh2, ambient, resolved))


def half_angle(c: Chord) -> Scalar:
    """d/2 on the unit hyperboloid where `c.far`: log(4 sinh²(d/2))/2, in which 1/(8 sinh²(d/2)) is lost against rounding."""
    return jnp.log(jnp.where(c.far, 4 * c.sinh2, 1)) / 2 - (jnp.log(c.e) + jnp.log(c.h))


def dist(x: Vector, y: Vector, k: Number) -> Scalar:
    """Geodesic distance sqrt(k) arcosh(-<x, y>/k), from the chord; gradient 0 where x = y."""
    c = _between(x, y, k)
    return jnp.sqrt(k) * jnp.where(c.far, 2 * half_angle(c), trig.arcosh1p(2 * jnp.where(c.far, 0, c.sinh2)))


def dist2(x: Vector, y: Vector, k: Number) -> Scalar:
    """Squared distance, smooth where x = y."""
    c = _between(x, y, k)
    s = jnp.where(c.far, 0, c.sinh2)
    ratio = trig.arsinh_ratio(-s)
    half = half_angle(c)
    return jnp.where(c.far, 4 * k * half * half, 4 * k * s * ratio * ratio)


def arsinh_norm(xs: Space, k: Number) -> tuple[Scalar, Space, Scalar, Array]:
    """(e, p, f, far): arsinh|q|/|q| of q = xs/sqrt(k) is e f, and p = e q, with e = 1 but where squares of q could overflow (`far`)."""
    e = shrinking(xs, k)
    far = e < 1
    p = xs * e / jnp.sqrt(k)
    p2 = dot(p, p)
    long = jnp.where(far, p2, 1)
    # log(2|q|), in which 1/(4|q|²) is lost against rounding
    return e, p, jnp.where(far, (jnp.log(4 * long) / 2 - jnp.log(e)) / jnp.sqrt(long), trig.arsinh_ratio(-jnp.where(far, 0, p2))), far


def dist0(x: Vector, k: Number) -> Scalar:
    """Distance to the origin sqrt(k) arcosh(x0/sqrt(k)), from the space part; differentiated in x0 where that keeps half of the digits."""
    r = jnp.sqrt(k)
    e = shrinking(x[..., 1:], k)
    far = e < 1
    x = x * e / r
    space = x[..., 1:]
    t, m = time_of(space, e * e), trig.binary_scale(space)
    s = m / (e + t) * m * dot(space / m, space / m) / 2  # (t - e)/2 = e sinh²(d/2)
    # half of the digits: the rows `lorentz dist0 d/dx` of accuracy/table.csv have cases on both sides
    s = _ambient(s, (x[..., :1] - e) / 2, s > jnp.sqrt(jnp.finfo(s.dtype).eps) * e)
    # far out log(4 sinh²(d/2)), in which 1/(2 sinh²(d/2)) is lost against rounding
    return r * jnp.where(far, jnp.log(jnp.where(far, 4 * s, 1)) - jnp.log(e), trig.arcosh1p(2 * jnp.where(far, 0, s)))
