"""The hyperboloid -x0² + |xs|² = -k, x0 > 0, of curvature -1/k: pure functions of arrays, time coordinate first.

A point is known by its space part xs, a tangent vector by its space part as well: their time coordinates follow, x0 = sqrt(k + |xs|²),
u0 = <xs, us>/x0. Where inner products of nearby or distant points would cancel, the formulas below use the space parts alone.

One file of some 300 lines: distance, logarithm and transport share the chord of two points and its ways around overflow.

Ratcliffe, "Foundations of hyperbolic manifolds" (2006), chapter 3; Law et al., "Lorentzian distance learning" (2019).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.gyrovector import conformal

Vector = Float[Array, "*batch d+1"]
Space = Float[Array, "*batch d"]
Scalar = Float[Array, "*batch 1"]
Curvature = Float[Array, "..."]


def dot(x: Space, y: Space) -> Scalar:
    """Euclidean inner product over the last axis, kept with length 1."""
    return jnp.sum(x * y, axis=-1, keepdims=True)


def inner(u: Vector, v: Vector) -> Scalar:
    """Minkowski inner product -u0 v0 + <us, vs>."""
    return dot(u[..., 1:], v[..., 1:]) - u[..., :1] * v[..., :1]


def inner0(v: Vector, k: Curvature) -> Scalar:
    """Minkowski inner product of v with the origin, -sqrt(k) v0."""
    return -jnp.sqrt(k) * v[..., :1]


def _join(time: Scalar, space: Space) -> Vector:
    shape = jnp.broadcast_shapes(time.shape[:-1], space.shape[:-1])
    return jnp.concatenate([jnp.broadcast_to(time, (*shape, 1)), jnp.broadcast_to(space, (*shape, space.shape[-1]))], -1)


def _time(space: Space, k: Curvature | float = 1.0) -> Scalar:
    """sqrt(k + |xs|²), without overflow of the square."""
    m = jnp.maximum(trig.binary_scale(space), 1)
    scaled = space / m
    return m * jnp.sqrt(k / m / m + dot(scaled, scaled))


def project(x: Vector, k: Curvature) -> Vector:
    """The point with the space part of x."""
    return _join(_time(x[..., 1:], k), x[..., 1:])


def project_u(x: Vector, v: Vector, k: Curvature) -> Vector:
    """Projection v + <x, v> x/k onto the tangent space at x; v itself where <x, v> is 0 to rounding.

    Far from the origin the rounding of <x, v>, multiplied by x, would be longer than v; and where x0² is beyond k/eps, so would be what
    it contributes to derivatives, which is 0 along the tangent bundle.
    """
    normal = inner(x, v)
    terms = dot(jnp.abs(x), jnp.abs(v))
    # the bound on the rounding of a sum of d + 1 products; the rows `lorentz expmap` (far points) and `lorentz proju` (none is noise)
    noise = jnp.abs(normal) <= x.shape[-1] * jnp.finfo(normal.dtype).eps * terms
    normal = normal - jax.lax.stop_gradient(jnp.where(noise, normal, 0))
    lost = noise & (x[..., :1] * jnp.finfo(normal.dtype).eps > k / x[..., :1])
    return v + jnp.where(lost, 0, normal / k) * jnp.where(lost, 1, x)


def tangent_norm2(x: Vector, u: Vector, k: Curvature) -> Scalar:
    """<u, u> of u tangent at x, from its space part: |us|² - <xs, us>²/x0², far from the origin as a sum of squares.

    Near the origin the second term is at most half of the first, while a radial part would have derivatives as large as 1/|xs|.
    """
    px, us = x[..., 1:] / jnp.sqrt(k), u[..., 1:]
    m = jnp.maximum(trig.binary_scale(px), 1)
    px = px / m
    t = _time(px * m) / m
    p2, along = dot(px, px), dot(px, us)
    near = p2 * m * m < 1
    p2 = jnp.where(near, 1, p2)
    rest = us - along / p2 * px
    # the radial part is along²/p2; seen in the metric it is shorter by 1/x0, and 1/x0² = 1 - |xs|²/x0² = 1/(m t)²
    split = dot(rest, rest) + along * (along / p2) / (t * t * m * m)
    return jnp.where(near, dot(us, us) - (along / t) * (along / t), split)


def norm(x: Vector, u: Vector, k: Curvature) -> Scalar:
    """sqrt(<u, u>) of u tangent at x, with gradient 0 at u = 0."""
    return trig.sqrt_or_zero(tangent_norm2(x, u, k))


class Chord(NamedTuple):
    """Two points on the unit hyperboloid, by their space parts, and the chord between them."""

    x: Space
    y: Space
    tx: Scalar
    ty: Scalar
    w: Space
    """y - x, from the difference of the coordinates as given."""
    s: Scalar
    """sinh²(d/2), a quarter of the chord's Minkowski square."""


def chord(x: Vector, y: Vector, k: Curvature) -> Chord:
    """The chord from x to y.

    With w = ys - xs on the unit hyperboloid, |y - x|² = (4|w|² + 4|xs ∧ ys|²)/(2 + 2(x0 y0 + <xs, ys>)), free of cancellation when
    <xs, ys> >= 0; for far points on opposite sides it is 2(x0 y0 - <xs, ys> - 1).
    """
    r = jnp.sqrt(k)
    px, py = x[..., 1:] / r, y[..., 1:] / r
    w = (y[..., 1:] - x[..., 1:]) / r
    tx, ty = _time(px), _time(py)
    cos, tt = dot(trig.over(px, tx), trig.over(py, ty)), tx * ty  # cos: <xs, ys>/(x0 y0), as the products can overflow
    # |xs ∧ ys| = |p ∧ w| for the point p nearer to the origin: the longer of p and w times what the shorter has across it
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


def _sinh2(x: Vector, y: Vector, k: Curvature) -> Scalar:
    """sinh²(d/2), differentiated as (-<x, y>/k - 1)/2 in all coordinates, time included, where that keeps half of the digits."""
    c = chord(x, y, k)
    # half of the digits: the rows `lorentz dist d/dx` are of both sides
    resolved = c.s > jnp.sqrt(jnp.finfo(c.s.dtype).eps) * c.tx * c.ty
    x, y = jnp.where(resolved, x, 0), jnp.where(resolved, y, 0)  # the product of others can overflow, its derivative by k first
    return _ambient(c.s, (-inner(x, trig.over(y, k)) - 1) / 2, resolved)


def dist(x: Vector, y: Vector, k: Curvature) -> Scalar:
    """Geodesic distance sqrt(k) arcosh(-<x, y>/k), from the chord; gradient 0 where x = y."""
    return jnp.sqrt(k) * trig.arcosh1p(2 * _sinh2(x, y, k))


def dist2(x: Vector, y: Vector, k: Curvature) -> Scalar:
    """Squared distance, smooth where x = y."""
    s = _sinh2(x, y, k)
    ratio = trig.arsinh_ratio(-s)
    return 4 * k * s * ratio * ratio


def dist0(x: Vector, k: Curvature) -> Scalar:
    """Distance to the origin sqrt(k) arcosh(x0/sqrt(k)), from the space part; differentiated in x0 where that keeps half of the digits."""
    r = jnp.sqrt(k)
    space = x[..., 1:] / r
    t, m = _time(space), trig.binary_scale(space)
    s = m / (1 + t) * m * dot(space / m, space / m) / 2  # (t - 1)/2 = sinh²(d/2)
    # half of the digits: the rows `lorentz dist0 d/dx` are of both sides
    s = _ambient(s, (x[..., :1] / r - 1) / 2, s > jnp.sqrt(jnp.finfo(s.dtype).eps))
    return r * trig.arcosh1p(2 * s)


def expmap(x: Vector, u: Vector, k: Curvature, norm2: Scalar | None = None) -> Vector:
    """Exponential map cosh(|u|/sqrt(k)) x + sqrt(k) sinh(|u|/sqrt(k)) u/|u|; `norm2` is |u|², by default <u, u>."""
    s = -(inner(u, u) if norm2 is None else norm2) / k
    return trig.cos_k(s) * x + trig.sin_ratio(s) * u


def farthest(dtype: Any) -> float:
    """The distance over sqrt(k) up to which a dtype holds points.

    The row `lorentz expmap0`: with distances to 80 its cases end where float32 does; 6 leaves room for radii sqrt(k) up to 400.
    """
    return float(np.log(jnp.finfo(dtype).max)) - 6


def expmap0(u: Vector, k: Curvature) -> Vector:
    """Exponential map at the origin. Where the point is too far for the dtype, the farthest in that direction that it holds."""
    norm2 = inner(u, u) / k
    limit = farthest(u.dtype)
    long = norm2 > limit * limit
    u = u * jnp.where(long, limit / jnp.sqrt(jnp.where(long, norm2, 1)), 1)
    s = -jnp.where(long, limit * limit, norm2)
    start, moved = jnp.sqrt(k) * trig.cos_k(s), trig.sin_ratio(s) * u
    return _join(start + moved[..., :1], moved[..., 1:])


def geodesic_unit(t: Float[Array, "..."], x: Vector, u: Vector, k: Curvature) -> Vector:
    """The point at arc length t from x in the direction of the unit tangent u; t broadcasts against points, last axis included."""
    r = t / jnp.sqrt(k)  # the root of its square is r again, where that of t²/k has another rounding, times r in the result
    s = -r * r
    return trig.cos_k(s) * x + t * trig.sin_ratio(s) * u


def _from_space(px: Space, t: Scalar, us: Space) -> Vector:
    """The tangent vector at px with space part us."""
    return _join(dot(trig.over(px, t), us), us)


def logmap(x: Vector, y: Vector, k: Curvature) -> Vector:
    """Logarithm d/sinh(d) (y - cosh(d) x), with y - cosh(d) x = (y - x) - 2 sinh²(d/2) x."""
    c = chord(x, y, k)
    ratio = trig.arsinh_ratio(-c.s)
    along_w = ratio / jnp.sqrt(1 + c.s)
    # d/sinh(d) 2 sinh²(d/2) = d tanh(d/2), which does not overflow with sinh
    large = c.s > 1
    s = jnp.where(large, c.s, 1)
    along_x = jnp.where(large, 2 * ratio * jnp.sqrt(s) / jnp.sqrt(1 + 1 / s), 2 * along_w * jnp.where(large, 0, c.s))
    return _from_space(c.x, c.tx, jnp.sqrt(k) * (along_w * c.w - along_x * c.x))


def logmap0(y: Vector, k: Curvature) -> Vector:
    """Logarithm at the origin: (0, sqrt(k) arsinh(|ys|/sqrt(k)) ys/|ys|)."""
    py = y[..., 1:] / jnp.sqrt(k)
    us = trig.arsinh_ratio(-dot(py, py)) * y[..., 1:]
    return _join(jnp.zeros_like(us[..., :1]), us)


def logmap0back(x: Vector, k: Curvature) -> Vector:
    """Logarithm at x of the origin: -d/sinh(d) times (|xs|²/sqrt(k), x0 xs/sqrt(k))."""
    r = jnp.sqrt(k)
    px = x[..., 1:] / r
    us = -trig.arsinh_ratio(-dot(px, px)) * _time(px) * x[..., 1:]
    return _from_space(px, _time(px), us)


def egrad2rgrad(x: Vector, grad: Vector, k: Curvature) -> Vector:
    """The Euclidean gradient with the sign of its time coordinate changed, projected onto the tangent space."""
    return project_u(x, _join(-grad[..., :1], grad[..., 1:]), k)


def parallel_transport(x: Vector, y: Vector, v: Vector, k: Curvature) -> Vector:
    """v + <y, v>/(k - <x, y>) (x + y)."""
    c = chord(x, y, k)
    vs = v[..., 1:]
    return _from_space(c.y, c.ty, vs + _transport_factor(c, vs) * (c.x + c.y))


def _transport_factor(c: Chord, vs: Space) -> Scalar:
    """<y, v>/(1 + cosh d) for the tangent vector v at x with space part vs.

    Near the origin <y, v> is <y - x, v>. Farther out v = a e + n with the unit radial vector e and n orthogonal to xs, and with the
    angle A between xs and ys <y, e> = (y0² - x0²)/(x0|ys| + y0|xs|) - x0|ys| (1 - cos A), where radial and transverse parts do not mix.
    There A is known to eps only and can be as small, but the quotient is not sensitive to it where v points to y: so numerator and
    denominator, cosh(d) = cosh(difference of the radial distances) + |xs||ys| (1 - cos A), use the same A. Both are divided by
    sqrt(x0 y0), as products of two far points overflow and their inverses underflow.
    """
    w0 = dot(c.w, (c.x + c.y) / (c.tx + c.ty))
    close = (dot(c.w, vs) - w0 * dot(c.x, vs) / c.tx) / (2 + 2 * c.s)
    far = (c.tx > 2) & (c.ty > 2)
    tx, ty = jnp.where(far, c.tx, 2), jnp.where(far, c.ty, 2)
    x, y = jnp.where(far, c.x / tx, 1), jnp.where(far, c.y / ty, 1)
    lx, ly = jnp.sqrt(dot(x, x)), jnp.sqrt(dot(y, y))
    ex = x / lx
    # what y has across x, of length |ys| sin A: from y or y - x, whichever is shorter
    ends = jnp.where(dot(c.w / ty, c.w / ty) < ly * ly, c.w / ty, y)
    across = ends - dot(ex, ends) * ex
    cos = dot(x, y) / (lx * ly)
    versine = jnp.where(cos > 0, dot(across, across) / (ly * ly) / (1 + jnp.where(cos > 0, cos, 1)), 1 - cos)
    squares = dot(c.w / tx, (c.x + c.y) / ty)  # (|ys|² - |xs|²)/(x0 y0)
    radial = dot(ex, vs)
    f = jnp.sqrt(tx) * jnp.sqrt(ty)
    numerator = radial / tx * (squares / (lx + ly) / f - ly * versine * f) + f * dot(across, (vs - radial * ex) / tx)
    # cosh(r) - 1 = (l² - m²)/2 for the differences l of lengths and m of times: m/l is the sum of the lengths over that of the times
    lengths, times = lx * tx + ly * ty, tx + ty
    gap = 1 / (tx * (1 + lx)) + 1 / (ty * (1 + ly))  # times - lengths
    difference = squares / lengths * f
    apart = difference * difference * (gap * f / times) * (1 + lengths / times) / 2
    split = numerator / (2 / f + apart + lx * ly * versine * f)
    return jnp.where(far, split, close)


def parallel_transport0(y: Vector, v: Vector, k: Curvature) -> Vector:
    """Transport from the origin to y: vs + <ys, vs>/(k + sqrt(k) y0) ys, for v0 = 0."""
    r = jnp.sqrt(k)
    py, vs = y[..., 1:] / r, v[..., 1:]
    t = _time(py)
    return _from_space(py, t, vs + dot(py, vs) / (1 + t) * py)


def parallel_transport0back(x: Vector, v: Vector, k: Curvature) -> Vector:
    """Transport from x to the origin: vs - <xs, vs>/(x0 (sqrt(k) + x0)) xs."""
    r = jnp.sqrt(k)
    px, vs = x[..., 1:] / r, v[..., 1:]
    t = _time(px)
    us = vs - dot(trig.over(px, t), vs) * trig.over(px, 1 + t)
    return _join(jnp.zeros_like(us[..., :1]), us)


def project_polar(x: Float[Array, "*batch d+1"], k: Curvature) -> Vector:
    """The point in direction x[:-1], of length 1, at distance x[-1] from the origin."""
    direction, d = x[..., :-1], x[..., -1:]
    s = -d * d / k
    return _join(jnp.sqrt(k) * trig.cos_k(s), d * trig.sin_ratio(s) * direction)


def lorentz_to_poincare(x: Vector, k: Curvature) -> Space:
    """The point xs/(x0 + sqrt(k)) of the unit ball; that has curvature -1 whatever k is, so distances shrink by sqrt(k)."""
    return trig.over(x[..., 1:], x[..., :1] + jnp.sqrt(jnp.asarray(k, x.dtype)))


def poincare_to_lorentz(x: Space, k: Curvature) -> Vector:
    """The inverse of `lorentz_to_poincare`: sqrt(k) (1 + |x|², 2x)/(1 - |x|²)."""
    return jnp.sqrt(jnp.asarray(k, x.dtype)) * _join(1 + dot(x, x), 2 * x) / conformal(x, -1.0)
