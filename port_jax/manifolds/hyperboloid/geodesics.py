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
from port_jax.manifolds.hyperboloid.metric import (
    Chord,
    arsinh_norm,
    axis_scale,
    chord,
    half_angle,
    inner,
    inverse_binary,
    join,
    shrinking,
    time_of,
)
from port_jax.manifolds.row_products import bounded, dot
from port_jax.primitives import where

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
    return u * jnp.where(long, jnp.sqrt(limit2 / where(long, norm2, 1)), 1), where(long, limit2, norm2)


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
    s = jnp.where(c.far, 1, c.sinh2)
    ratio = trig.arsinh_ratio(-s)
    along_w = ratio / jnp.sqrt(1 + s)
    # d/sinh(d) 2 sinh²(d/2) = d tanh(d/2), which does not overflow with sinh
    large = s > 1
    s_large = jnp.where(large, s, 1)
    along_x = jnp.where(large, 2 * ratio * jnp.sqrt(s_large) / jnp.sqrt(1 + 1 / s_large), 2 * along_w * jnp.where(large, 0, s))
    # where sinh²(d/2) itself overflows, d tanh(d/2) is d, and d/sinh(d) is d/2 over sinh²(d/2)
    half = half_angle(c)
    along_w = jnp.where(c.far, half / jnp.where(c.far, c.sinh2, 1) * (c.h * c.e), along_w)
    along_x = jnp.where(c.far, 2 * half, along_x)
    return _from_space(c.x, c.tx, jnp.sqrt(k) * (along_w * (c.w * (c.h * c.e)) - along_x * c.x) / c.h)


def logmap0(y: Vector, k: Number) -> Vector:
    """Logarithm at the origin: (0, sqrt(k) arsinh(|ys|/sqrt(k)) ys/|ys|)."""
    e, _, factor, _ = arsinh_norm(y[..., 1:], k)
    us = factor * (y[..., 1:] * e)
    return join(jnp.zeros_like(us[..., :1]), us)


def logmap0back(x: Vector, k: Number) -> Vector:
    """Logarithm at x of the origin: -d/sinh(d) times (|xs|²/sqrt(k), x0 xs/sqrt(k))."""
    e, px, factor, _ = arsinh_norm(x[..., 1:], k)
    t = time_of(px, e * e)
    return _from_space(px, t, -factor * t * x[..., 1:])


def parallel_transport(x: Vector, y: Vector, v: Vector, k: Number) -> Vector:
    """v + <y, v>/(k - <x, y>) (x + y)."""
    c = chord(x, y, k)
    vs, total = v[..., 1:], c.tx + c.ty
    return _from_space(c.y, c.ty, vs + _transport_factor(c, vs) * trig.over(c.x + c.y, total))


def _transport_factor(c: Chord, vs: Space) -> Scalar:
    """<y, v> (x0 + y0)/(1 + cosh d) for the tangent vector v at x with space part vs.

    Near the origin <y, v> is <y - x, v>. Farther out v = a e + n with the unit radial vector e and n orthogonal to xs, and with the
    angle A between xs and ys <y, e> = (y0² - x0²)/(x0|ys| + y0|xs|) - x0|ys| (1 - cos A), where radial and transverse parts do not mix.
    There A is known only to within eps and can be as small as that, but the quotient is not sensitive to A where v points to y, as
    long as numerator and denominator, cosh(d) = cosh(difference of the radial distances) + |xs||ys| (1 - cos A), use the same A.
    Both are divided by sqrt(x0 y0), because products of two far points overflow and their inverses underflow, and multiplied by the
    power of two q that brings the denominator near to 1.
    """
    h = c.h
    far = (c.tx > 2 * h) & (c.ty > 2 * h)
    tx, ty = jnp.where(far, c.tx, 2), jnp.where(far, c.ty, 2)
    x, y, w = jnp.where(far, c.x, 1), jnp.where(far, c.y, 1), jnp.where(far, c.w, 0)
    px, py = trig.over(x, tx), trig.over(y, ty)
    lx, ly = jnp.sqrt(dot(px, px)), jnp.sqrt(dot(py, py))
    ex, f = trig.over(px, lx), jnp.sqrt(tx) * jnp.sqrt(ty)
    # the part of y orthogonal to x, of length |ys| sin A: from y or y - x, whichever is shorter
    ends = jnp.where(dot(w / ty, w / ty) < ly * ly, w, y)
    across = ends - dot(ex, ends) * ex
    cos = dot(px, py) / (lx * ly)
    acute = cos > 0
    squares = dot(trig.over(w, tx), trig.over(x + y, ty))  # (|ys|² - |xs|²)/(x0 y0)
    # cosh(r) - 1 = (l² - m²)/2 for the differences l of lengths and m of times: m/l is the sum of the lengths over that of the times
    lengths, times = lx * tx + ly * ty, tx + ty
    gap = trig.over(h, tx * (1 + lx)) + trig.over(h, ty * (1 + ly))  # times - lengths
    difference = squares * trig.over(f, lengths)
    apart = difference * difference * (1 + trig.over(lengths, times)) / 2 * trig.over(f, times)  # times gap
    turn = trig.over(across, ty)
    ratio = dot(turn, turn) / (ly * ly) / (1 + jnp.where(acute, cos, 1))
    most = 2.0 ** (jnp.finfo(vs.dtype).maxexp - 3)
    wide, narrow = jnp.where(acute, ratio, 2) * f, apart * gap + 2 * (h / f)
    q = jnp.minimum(inverse_binary(jnp.maximum(wide, 1 / most)), inverse_binary(jnp.maximum(narrow, 1 / most)) / h)
    q = jnp.minimum(q, most * inverse_binary(jnp.maximum(f / tx, f / ty)))
    stretch = trig.over(f, ty) * q
    turned = dot(across * stretch, turn) / (ly * ly) / (1 + jnp.where(acute, cos, 1))
    versine = jnp.where(acute, turned, (1 - cos) * f * q)  # times f q
    small = trig.over(q * h, f) * h
    part, radial = trig.over(times, tx), dot(ex, vs)
    numerator = radial * (part * (squares / (lx + ly) * small - ly * versine))
    numerator = numerator + (stretch * part) * dot(across, vs - radial * ex)
    split = trig.over(numerator, 2 * small + apart * (gap * (q * h)) + lx * ly * versine)
    return jnp.where(far, split, (c.tx + c.ty) * _close_factor(c, vs, far))


def _close_factor(c: Chord, vs: Space, far: Array) -> Scalar:
    """<y, v>/(1 + cosh d)/h² = <y - x, v>/(1 + cosh d)/h², where one point is near the origin; without infinities where `far`."""
    w, tx = jnp.where(far, 0, c.w), jnp.where(far, 1, c.tx)
    w0 = dot(w, trig.over(jnp.where(far, 0, c.x + c.y), jnp.where(far, 1, c.tx + c.ty)))
    outer = tx > 4 * c.ty  # there y is shorter than y - x
    w, w0 = jnp.where(outer, c.y, w), jnp.where(outer, c.ty, w0)
    e = jnp.where(far, 1, c.e)
    return trig.over(
        dot(w, vs) - w0 * dot(jnp.where(far, 0, trig.over(c.x, tx)), vs), 2 * c.h * c.h + 2 * jnp.where(far, 1, c.sinh2) / e / e
    )


def parallel_transport0(y: Vector, v: Vector, k: Number) -> Vector:
    """Transport from the origin to y: vs + <ys, vs>/(k + sqrt(k) y0) ys, for v0 = 0."""
    e = shrinking(y[..., 1:], k)
    py, vs = y[..., 1:] * e / jnp.sqrt(k), v[..., 1:]
    t = time_of(py, e * e)
    return _from_space(py, t, vs + trig.over(dot(py, vs), e + t) * py / e)


def parallel_transport0back(x: Vector, v: Vector, k: Number) -> Vector:
    """Transport from x to the origin: vs - <xs, vs>/(x0 (sqrt(k) + x0)) xs, far out the part across xs and 1/x0 of that along it."""
    r, vs = jnp.sqrt(k), v[..., 1:]
    size = axis_scale(x[..., 1:])
    far = size > 2.0**10 * r
    px = trig.over(x[..., 1:], jnp.where(far, size, r))
    p2 = dot(px, px)
    ratio = jnp.where(far, trig.over(r, size), 1)  # x0/sqrt(k) times this is t
    t = jnp.where(far, jnp.sqrt(ratio * ratio + p2), time_of(px))
    near = dot(trig.over(px, t), vs) * trig.over(px, 1 + t)
    along = trig.over(dot(px, vs), jnp.where(far, p2, 1)) * px
    us = vs - jnp.where(far, along, near) + jnp.where(far, trig.over(along, size) * (r / t), 0)
    return join(jnp.zeros_like(us[..., :1]), us)


def project_polar(x: Float[Array, "*batch d+1"], k: Number) -> Vector:
    """The point in direction x[:-1], of length 1, at distance x[-1] from the origin."""
    direction, d = x[..., :-1], x[..., -1:]
    s = -d * d / k
    return join(jnp.sqrt(k) * trig.cos_k(s), d * trig.sin_ratio(s) * direction)
