"""Exponential, logarithm, geodesics and transports of the hyperboloid -x0² + |xs|² = -k: pure functions of arrays, time first.

As in `metric`, a vector's time coordinate follows from its space part; distance, logarithm and transport share the chord of two points
and its ways around overflow.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.hyperboloid.metric import Chord, chord, inner, join, time_of
from port_jax.manifolds.row_products import bounded, dot

__all__ = [
    "expmap",
    "expmap0",
    "farthest",
    "geodesic_unit",
    "logmap",
    "logmap0",
    "logmap0back",
    "parallel_transport",
    "parallel_transport0",
    "parallel_transport0back",
    "project_polar",
    "within_reach",
]

Vector = Float[Array, "*batch d+1"]
Space = Float[Array, "*batch d"]
Scalar = Float[Array, "*batch 1"]
Number = Float[Array, "..."]


def expmap(x: Vector, u: Vector, k: Number, norm2: Scalar | None = None) -> Vector:
    """Exponential map cosh(|u|/sqrt(k)) x + sqrt(k) sinh(|u|/sqrt(k)) u/|u|; `norm2` is |u|², by default <u, u>."""
    s = -(inner(u, u) if norm2 is None else norm2) / k
    return trig.cos_k(s) * x + trig.sin_ratio(s) * u


def farthest(dtype: DTypeLike) -> float:
    """The distance, in units of sqrt(k), up to which a dtype can represent points.

    The cases of the row `lorentz expmap0` in accuracy/table.csv have distances up to 80, where float32 ends; 6 leaves room for radii
    sqrt(k) up to 400.
    """
    return float(np.log(jnp.finfo(dtype).max)) - 6


def expmap0(u: Vector, k: Number) -> Vector:
    """Exponential map at the origin. Where the point is too far for the dtype, the farthest representable one in that direction."""
    u = bounded(u)[0]
    norm2 = inner(u, u) / k
    limit = farthest(u.dtype)
    long = norm2 > limit * limit
    u = u * jnp.where(long, limit / jnp.sqrt(jnp.where(long, norm2, 1)), 1)
    s = -jnp.where(long, limit * limit, norm2)
    start, moved = jnp.sqrt(k) * trig.cos_k(s), trig.sin_ratio(s) * u
    return join(start + moved[..., :1], moved[..., 1:])


def within_reach(x: Vector, u: Vector, norm2: Scalar, k: Number) -> tuple[Vector, Scalar]:
    """u and |u|² = `norm2`, shortened where exp_x(u) would be farther from the origin than the dtype can represent."""
    limit = jnp.maximum(farthest(u.dtype) - jnp.log(2 * x[..., :1] / jnp.sqrt(k)), 1)
    limit2 = jax.lax.stop_gradient(limit * limit * k)
    long = norm2 > limit2
    return u * jnp.where(long, jnp.sqrt(limit2 / jnp.where(long, norm2, 1)), 1), jnp.where(long, limit2, norm2)


def geodesic_unit(t: Float[Array, "..."], x: Vector, u: Vector, k: Number) -> Vector:
    """The point at arc length t from x in the direction of the unit tangent u; t broadcasts against points, last axis included."""
    r = t / jnp.sqrt(k)  # the root of r² is r again; that of t²/k has a rounding error of its own, which the result would have times r
    s = -r * r
    return trig.cos_k(s) * x + t * trig.sin_ratio(s) * u


def _from_space(px: Space, t: Scalar, us: Space) -> Vector:
    """The tangent vector at px with space part us."""
    return join(dot(trig.over(px, t), us), us)


def logmap(x: Vector, y: Vector, k: Number) -> Vector:
    """Logarithm d/sinh(d) (y - cosh(d) x), with y - cosh(d) x = (y - x) - 2 sinh²(d/2) x."""
    c = chord(x, y, k)
    ratio = trig.arsinh_ratio(-c.s)
    along_w = ratio / jnp.sqrt(1 + c.s)
    # d/sinh(d) 2 sinh²(d/2) = d tanh(d/2), which does not overflow with sinh
    large = c.s > 1
    s = jnp.where(large, c.s, 1)
    along_x = jnp.where(large, 2 * ratio * jnp.sqrt(s) / jnp.sqrt(1 + 1 / s), 2 * along_w * jnp.where(large, 0, c.s))
    return _from_space(c.x, c.tx, jnp.sqrt(k) * (along_w * c.w - along_x * c.x))


def logmap0(y: Vector, k: Number) -> Vector:
    """Logarithm at the origin: (0, sqrt(k) arsinh(|ys|/sqrt(k)) ys/|ys|)."""
    py = y[..., 1:] / jnp.sqrt(k)
    us = trig.arsinh_ratio(-dot(py, py)) * y[..., 1:]
    return join(jnp.zeros_like(us[..., :1]), us)


def logmap0back(x: Vector, k: Number) -> Vector:
    """Logarithm at x of the origin: -d/sinh(d) times (|xs|²/sqrt(k), x0 xs/sqrt(k))."""
    r = jnp.sqrt(k)
    px = x[..., 1:] / r
    us = -trig.arsinh_ratio(-dot(px, px)) * time_of(px) * x[..., 1:]
    return _from_space(px, time_of(px), us)


def parallel_transport(x: Vector, y: Vector, v: Vector, k: Number) -> Vector:
    """v + <y, v>/(k - <x, y>) (x + y)."""
    c = chord(x, y, k)
    vs = v[..., 1:]
    return _from_space(c.y, c.ty, vs + _transport_factor(c, vs) * (c.x + c.y))


def _transport_factor(c: Chord, vs: Space) -> Scalar:
    """<y, v>/(1 + cosh d) for the tangent vector v at x with space part vs.

    Near the origin <y, v> is <y - x, v>. Farther out v = a e + n with the unit radial vector e and n orthogonal to xs, and with the
    angle A between xs and ys <y, e> = (y0² - x0²)/(x0|ys| + y0|xs|) - x0|ys| (1 - cos A), where radial and transverse parts do not mix.
    There A is known only to within eps and can be as small as that, but the quotient is not sensitive to A where v points to y, as
    long as numerator and denominator, cosh(d) = cosh(difference of the radial distances) + |xs||ys| (1 - cos A), use the same A.
    Both are divided by sqrt(x0 y0), because products of two far points overflow and their inverses underflow.
    """
    w0 = dot(c.w, (c.x + c.y) / (c.tx + c.ty))
    close = (dot(c.w, vs) - w0 * dot(c.x, vs) / c.tx) / (2 + 2 * c.s)
    far = (c.tx > 2) & (c.ty > 2)
    tx, ty = jnp.where(far, c.tx, 2), jnp.where(far, c.ty, 2)
    x, y = jnp.where(far, c.x / tx, 1), jnp.where(far, c.y / ty, 1)
    lx, ly = jnp.sqrt(dot(x, x)), jnp.sqrt(dot(y, y))
    ex = x / lx
    # the part of y orthogonal to x, of length |ys| sin A: from y or y - x, whichever is shorter
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


def parallel_transport0(y: Vector, v: Vector, k: Number) -> Vector:
    """Transport from the origin to y: vs + <ys, vs>/(k + sqrt(k) y0) ys, for v0 = 0."""
    r = jnp.sqrt(k)
    py, vs = y[..., 1:] / r, v[..., 1:]
    t = time_of(py)
    return _from_space(py, t, vs + dot(py, vs) / (1 + t) * py)


def parallel_transport0back(x: Vector, v: Vector, k: Number) -> Vector:
    """Transport from x to the origin: vs - <xs, vs>/(x0 (sqrt(k) + x0)) xs."""
    r = jnp.sqrt(k)
    px, vs = x[..., 1:] / r, v[..., 1:]
    t = time_of(px)
    us = vs - dot(trig.over(px, t), vs) * trig.over(px, 1 + t)
    return join(jnp.zeros_like(us[..., :1]), us)


def project_polar(x: Float[Array, "*batch d+1"], k: Number) -> Vector:
    """The point in direction x[:-1], of length 1, at distance x[-1] from the origin."""
    direction, d = x[..., :-1], x[..., -1:]
    s = -d * d / k
    return join(jnp.sqrt(k) * trig.cos_k(s), d * trig.sin_ratio(s) * direction)
