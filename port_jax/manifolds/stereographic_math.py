"""Distances, geodesics, transports and means of the stereographic model of curvature k: pure functions of arrays.

All follow from w = y - x, A = 1 + k|x|², B = 1 + k|y|² and D = A B - k|w|², the squared denominator of (-x) + y:
sin_k(d/2) = |w|/sqrt(A B), tan_k(d/2) = |w|/sqrt(D). The first is exact to rounding for k <= 0 however near the points are to each
other or to the boundary; the second is on the sphere, up to antipodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.gyrovector import (
    Curvature,
    Scalar,
    Vector,
    antipode,
    conformal,
    dot,
    gyration,
    mobius_add_fraction,
    mobius_scalar_mul,
    separation,
)


def lambda_x(x: Vector, k: Curvature) -> Scalar:
    """Conformal factor 2/(1 + k|x|²)."""
    return 2 / conformal(x, k)


def inner(x: Vector, u: Vector, v: Vector, k: Curvature) -> Scalar:
    """lambda_x² <u, v>."""
    factor = lambda_x(x, k)
    return factor * factor * dot(u, v)


def norm(x: Vector, u: Vector, k: Curvature) -> Scalar:
    """lambda_x |u|, with gradient 0 at u = 0."""
    return lambda_x(x, k) * trig.sqrt_or_zero(dot(u, u))


def egrad2rgrad(x: Vector, grad: Vector, k: Curvature) -> Vector:
    """grad/lambda_x²."""
    half = conformal(x, k) / 2
    return grad * (half * half)


def _half_distance(x: Vector, y: Vector, a: Scalar, b: Scalar, k: Curvature, spherical: bool) -> tuple[Scalar, Scalar, Scalar, Any]:
    """(q, T, half, wide): d/2 is `half` where `wide`, elsewhere sqrt(q) T, with q = |y - x|²/(A B) and T smooth where the points coincide.

    On the sphere sin(d/2) says nothing near d = pi: there, where it is `wide`, the angle comes from sin and cos together.
    """
    w = y - x
    w2 = dot(w, w)
    q = trig.over(w2, a * b)
    if not spherical:
        return q, trig.arsinh_ratio(k * q), q, None
    wide = k * q > 0.1  # the end of arsin's series: the rows `sphere dist` are of both sides
    sine = jnp.sqrt(jnp.where(wide, k * w2, 1))
    half = jnp.arctan2(sine, jnp.sqrt(_cosine2(x, y, k, wide))) / jnp.sqrt(jnp.where(wide, k, 1))
    return q, trig.arsinh_ratio(jnp.where(wide, 0, k * q)), half, wide


def _cosine2(x: Vector, y: Vector, k: Curvature, used: Array) -> Scalar:
    """D = 1 + 2k<x,y> + k²|x|²|y|² on the sphere, 0 at antipodes."""
    return separation(-x, y, 1.0, k, used)


def _chord(x: Vector, y: Vector, k: Curvature) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """q and T of `_half_distance` for k <= 0, without the last axis of length 1.

    Where one point meets many, the transpose sums over the many: ten times slower on CPU with an axis of length 1 behind theirs.
    """
    w = y - x
    a, b, w2 = (jnp.squeeze(v, -1) for v in (conformal(x, k), conformal(y, k), dot(w, w)))
    q = trig.over(w2, a * b)
    return q, trig.arsinh_ratio((jnp.squeeze(k, -1) if jnp.ndim(k) else k) * q)


def dist(x: Vector, y: Vector, k: Curvature, *, spherical: bool = True) -> Scalar:
    """Geodesic distance 2 arsin_k(|y - x|/sqrt((1 + k|x|²)(1 + k|y|²))); gradient 0 where x = y.

    `spherical=False` is for k <= 0 only: the same numbers without the sphere's side, in less than half the time.
    """
    if not spherical:
        q, ratio = _chord(x, y, k)
        return jnp.expand_dims(2 * trig.sqrt_or_zero(q) * ratio, -1)
    q, ratio, half, wide = _half_distance(x, y, conformal(x, k), conformal(y, k), k, spherical)
    return jnp.where(wide, 2 * half, 2 * trig.sqrt_or_zero(q) * ratio)


def dist2(x: Vector, y: Vector, k: Curvature, *, spherical: bool = True) -> Scalar:
    """Squared distance, smooth where x = y."""
    if not spherical:
        q, ratio = _chord(x, y, k)
        return jnp.expand_dims(4 * q * (ratio * ratio), -1)
    q, ratio, half, wide = _half_distance(x, y, conformal(x, k), conformal(y, k), k, spherical)
    return jnp.where(wide, 4 * half * half, 4 * q * (ratio * ratio))


def dist0(x: Vector, k: Curvature, *, spherical: bool = True) -> Scalar:
    """Distance to the origin 2 artan_k|x|."""
    return 2 * trig.artan_k(trig.sqrt_or_zero(dot(x, x)), k, spherical=spherical)


def expmap(x: Vector, u: Vector, k: Curvature, *, spherical: bool = True) -> Vector:
    """Exponential map x + tan_k(lambda_x |u|/2) u/|u|."""
    a = conformal(x, k)
    v = trig.over(u, a)
    sin, cos, b = trig.tan_homogeneous(k * dot(v, v), spherical=spherical)
    return mobius_add_fraction(x, sin * v, cos, a, b, k, spherical=spherical)


def logmap(x: Vector, y: Vector, k: Curvature, *, spherical: bool = True) -> Vector:
    """Logarithm (2/lambda_x) artan_k|v| v/|v| of v = (-x) + y."""
    a, b, w = conformal(x, k), conformal(y, k), y - x
    w2 = dot(w, w)
    _, ratio, half, wide = _half_distance(x, y, a, b, k, spherical)
    near = trig.denominator(a * b - k * w2)
    # The factor is A d/(2|w|)/sqrt(D), with d/2 = T|w|/sqrt(A B).
    if not spherical:
        return ratio * jnp.sqrt(trig.over(a, b * near)) * (k * w2 * x + a * w)
    far = k * w2 > 1
    first = jnp.where(far, -(1 + 2 * k * dot(x, y) - k * dot(y, y)), k * w2)
    direction = first * x + a * jnp.where(far, y, w)
    d = jnp.where(far, _cosine2(x, y, k, far), near)
    square = trig.over(jnp.where(wide, a * a, a), jnp.where(wide, w2, b) * d)
    return jnp.where(wide, half, ratio) * jnp.sqrt(square) * direction


def geodesic(t: Float[Array, "..."], x: Vector, y: Vector, k: Curvature, *, spherical: bool = True) -> Vector:
    """The point at time t of the geodesic with x at 0 and y at 1; t broadcasts against the points, last axis included."""
    return expmap(x, t * logmap(x, y, k, spherical=spherical), k, spherical=spherical)


def geodesic_unit(t: Float[Array, "..."], x: Vector, u: Vector, k: Curvature, *, spherical: bool = True) -> Vector:
    """The point at arc length t of the geodesic from x in the direction of u (x for u = 0)."""
    u2 = dot(u, u)
    unit = trig.over(u, jnp.sqrt(jnp.where(u2 > 0, u2, 1)))
    sin, cos, b = trig.tan_fraction(t / 2, k, spherical=spherical)
    # b belongs to a direction of length 1; without a direction the point stays at x.
    b = jnp.where(u2 > 0, b, cos * cos)
    return mobius_add_fraction(x, sin * unit, cos, conformal(x, k), b, k, spherical=spherical)


def parallel_transport(x: Vector, y: Vector, v: Vector, k: Curvature, *, spherical: bool = True) -> Vector:
    """gyr[y, -x] v lambda_x/lambda_y."""
    return gyration(y, -x, v, k, spherical=spherical) * (conformal(y, k) / conformal(x, k))


def parallel_transport0(y: Vector, v: Vector, k: Curvature) -> Vector:
    """Transport from the origin to y: v (1 + k|y|²)."""
    return v * conformal(y, k)


def parallel_transport0back(x: Vector, v: Vector, k: Curvature) -> Vector:
    """Transport from x to the origin: v/(1 + k|x|²)."""
    return trig.over(v, conformal(x, k))


def dist2plane(
    x: Vector, p: Vector, a: Vector, k: Curvature, *, signed: bool = False, scaled: bool = False, spherical: bool = True
) -> Scalar:
    """Distance from x to the geodesic hyperplane through p with normal a: arsin_k(2<v,a>/((1 + k|v|²)|a|)), v = (-p) + x.

    `signed` keeps the side as sign, `scaled` multiplies by |a|. Ganea et al. (2018), theorem 5.
    """
    w = x - p
    w2, pa = dot(w, w), dot(p, a)
    along = k * w2 * pa + conformal(p, k) * dot(w, a)
    if spherical:
        usual = -(1 + 2 * k * dot(p, x) - k * dot(x, x)) * pa + conformal(p, k) * dot(x, a)
        along = jnp.where(k * w2 > 1, usual, along)
    if not signed:
        along = along * jnp.sign(along)
    return plane_distance(along, conformal(x, k), conformal(p, k), trig.sqrt_or_zero(dot(a, a)), k, scaled=scaled, spherical=spherical)


def plane_distance(
    along: Scalar, ax: Scalar, ap: Scalar, norm: Scalar, k: Curvature, *, scaled: bool = False, spherical: bool = True
) -> Scalar:
    """`dist2plane` from along = k|w|²<p,a> + (1 + k|p|²)<w,a> with w = x - p, the 1 + k|x|² and 1 + k|p|², and |a|."""
    length = jnp.where(norm > 0, norm, 1)
    distance = trig.arsin_k(2 * along / (ap * ax * length), k, spherical=spherical)
    return distance * norm if scaled else distance


def weighted_midpoint(
    xs: Vector,
    weights: Float[Array, "..."] | None,
    k: Curvature,
    *,
    reducedim: Sequence[int] | None = None,
    keepdim: bool = False,
    lincomb: bool = False,
    posweight: bool = False,
    spherical: bool = True,
) -> Vector:
    """Gyro-midpoint: m = sum w lambda x / sum w (lambda - 1), then half of m along its ray, m/(1 + sqrt(1 + k|m|²)).

    weights has the shape of xs without the last axis (or broadcasts to it). `lincomb` multiplies by the sum of the weights, `posweight`
    replaces negative weights by positive ones at the antipode. For k > 0 the nearer of midpoint and antipode is taken; `spherical=False`
    promises k <= 0 and leaves that out. Bachmann et al. (2020), definition 3.1.
    """
    xs = jnp.asarray(xs)
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
    if spherical:
        other = antipode(middle, k)
        here = jnp.sum(dist(middle, xs, k), axes, keepdims=True)
        there = jnp.sum(dist(other, xs, k), axes, keepdims=True)
        middle = jnp.where((k > 0) & (there < here), other, middle)
    if lincomb:
        alpha = jnp.sum(jnp.broadcast_to(w, jnp.broadcast_shapes(w.shape, a.shape)), axes, keepdims=True)
        middle = mobius_scalar_mul(alpha, middle, k, spherical=spherical)
    return middle if keepdim else jnp.squeeze(middle, axes)


def _root(denominator: Scalar, numerator: Vector, a: Scalar, w: Array, xs: Vector, k: Curvature, axes: tuple[int, ...]) -> Scalar:
    """sqrt(denominator² + k|numerator|²), 0 where that is negative.

    On the hyperboloid these are time and space part of M = sum w (t_i, n_i), and where they nearly agree their difference is the sum of
    w (t_i - <n_i, e>) = w (1 + |n_i across e|²)/(t_i + <n_i, e>), e the unit vector along the space part of M.
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


def _inverse_radius(k: Curvature) -> Curvature:
    """sqrt|k|; at k = 0, which has no sphere to project from, that of 1e-15 as in geoopt, so that sproj and inv_sproj stay inverse.

    For every other k nothing is added: the rows `ball sproj`, `sphere sproj`, `ball inv_sproj`, `sphere inv_sproj`.
    """
    return jnp.sqrt(jnp.where(k == 0, 1e-15, jnp.abs(k)))


def sproj(x: Float[Array, "*batch d+1"], k: Curvature) -> Vector:
    """Stereographic projection of the sphere or hyperboloid in R^(d+1), whose last coordinate is the axis, to the model."""
    return trig.over(x[..., :-1], 1 + _inverse_radius(k) * x[..., -1:])


def inv_sproj(x: Vector, k: Curvature) -> Float[Array, "*batch d+1"]:
    """The point of the sphere or hyperboloid that `sproj` takes to x."""
    factor = lambda_x(x, k)
    return jnp.concatenate([factor * x, (factor - 1) / _inverse_radius(k)], axis=-1)
