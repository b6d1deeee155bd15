"""The metric of the stereographic model of curvature k: conformal factor, inner products, distances. Pure functions of arrays.

All follow from w = y - x, A = 1 + k|x|², B = 1 + k|y|² and D = A B - k|w|², the squared denominator of (-x) + y:
sin_k(d/2) = |w|/sqrt(A B), tan_k(d/2) = |w|/sqrt(D). The first is exact to rounding for k <= 0 however near the points are to each
other or to the boundary; the second is exact to rounding on the sphere, up to antipodes.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from port_jax.checks import is_half
from port_jax.manifolds import trig
from port_jax.manifolds.point_numbers import one_or_nan
from port_jax.manifolds.row_products import dot, inner_products, lengthened
from port_jax.manifolds.signed import Signed, as_curvature, number

__all__ = [
    "boundary_margin",
    "conformal",
    "conformal_of_sums",
    "cosine2",
    "dist",
    "dist0",
    "dist2",
    "egrad2rgrad",
    "half_distance",
    "inner",
    "lambda_x",
    "narrowed",
    "norm",
    "on_grid",
    "project",
    "project_any",
    "separation",
]

Vector = Float[Array, "*batch d"]
Scalar = Float[Array, "*batch 1"]
Number = Float[Array, "..."]


def conformal(x: Vector, k: Signed) -> Scalar:
    """2/lambda_x = 1 + k|x|², accurate up to the last float before the boundary; eps/2 on the boundary and beyond.

    x = h + l with h on a grid so coarse that |h|² is exact in any order of summation, fused with products or not, and
    |x|² = |h|² + <l, x + h>. So the error of 1 - |x|² is eps^(3/2), where that of the plain sum is eps: see the rows `ball lambda_x` of
    accuracy/table.csv. Their cases end at the last float inside the ball; eps/2 is for points beyond it.
    """
    return _conformal(x, number(k))


@jax.custom_jvp
def _conformal(x: Vector, k: Number) -> Scalar:
    dtype = jnp.result_type(x, k)
    x, k = jnp.asarray(x, dtype), jnp.asarray(k, dtype)
    h = on_grid(x, k)
    total, rest = inner_products(h, h, x - h, x + h)
    return conformal_of_sums(total, rest, k)


@_conformal.defjvp
def _(primals: tuple[Vector, Number], tangents: tuple[Vector, Number]) -> tuple[Scalar, Scalar]:
    (x, k), (dx, dk) = primals, tangents
    return _conformal(x, k), 2 * k * dot(x, dx) + dk * dot(x, x)


def on_grid(x: Vector, k: Number) -> Vector:
    """x rounded to multiples of a power of two, of which 2^half make up the radius; 0 for k >= 0."""
    info = jnp.finfo(x.dtype)
    half = (info.nmant + 1) // 2
    # a power of two at or above the radius 1/sqrt(-k), divided into 2^half cells
    radius = jnp.sqrt(1 / jnp.where(k < 0, -k, 1))
    cell = 2 * jax.lax.reduce_precision(radius, info.nexp, 0) * 2.0**-half
    return jnp.round(x * jnp.where(k < 0, 1 / cell, 0)) * cell


def conformal_of_sums(total: Scalar, rest: Scalar, k: Number) -> Scalar:
    """`conformal` from |h|² and <x - h, x + h>."""
    info = jnp.finfo(total.dtype)
    head = lambda a: jax.lax.reduce_precision(a, info.nexp, (info.nmant - 1) // 2)  # noqa: E731
    k_head, total_head = head(k), head(total)
    k_rest, total_rest = k - k_head, total - total_head
    cross = k_head * total_rest + k_rest * total_head
    value = ((1 + k_head * total_head) + cross) + (k_rest * total_rest + k * rest)
    return jnp.where(value <= 0, info.eps / 2, value)


def boundary_margin(dtype: DTypeLike) -> float:
    """How far, relative to the radius, `project` keeps points from the boundary: geoopt's values, in half precision four roundings more.

    In accuracy/table.csv only the rows `ball projx` and `ball retr` depend on it; all others are of results before projection.
    """
    if dtype == jnp.float64:
        return 1e-5
    return 4e-3 + 4 * float(jnp.finfo(dtype).eps) * is_half(dtype)


def project(x: Vector, k: Signed, eps: float | None = None) -> Vector:
    """x, or for k < 0 its multiple of norm (1 - eps)/sqrt(-k) if it is longer than that."""
    x, k = jnp.asarray(x), number(k)
    eps = boundary_margin(x.dtype) if eps is None else eps
    limit = ((1 - eps) / jnp.sqrt(jnp.where(k >= 0, 1, -k))).astype(x.dtype)
    square = dot(x, x)
    outside = ~((k >= 0) | (square <= limit * limit))  # NaN is, so that it stays
    return x * (jnp.where(outside, limit, 1) / jnp.sqrt(jnp.where(outside, square, 1)))


def project_any(x: Vector, k: Signed) -> Vector:
    """`project` of any x, also one whose square overflows: results of the formulas of this package are never as long."""
    k = number(k)
    long = (k < 0) & (dot(x, x) == jnp.inf)
    limit = (1 - boundary_margin(x.dtype)) / jnp.sqrt(jnp.where(k < 0, -k, 1))
    return jnp.where(long, lengthened(x, limit, long), project(x, k))


def narrowed(x: Vector, k: Signed, dtype: DTypeLike) -> Vector:
    """x rounded to a narrower type, moved to its `boundary_margin` first if it is beyond that by more than a rounding of all coordinates.

    So a point that this function returned stays as it is, and stays inside the ball when a step of an optimizer is added to it with two
    more roundings.
    """
    eps = float(jnp.finfo(dtype).eps)
    margin = boundary_margin(dtype)
    allowed = project(x, k, margin - eps)
    return jnp.where(allowed == x, x, project(x, k, margin)).astype(dtype)


def lambda_x(x: Vector, k: Signed) -> Scalar:
    """Conformal factor 2/(1 + k|x|²)."""
    return 2 / conformal(x, k)


def inner(x: Vector, u: Vector, v: Vector, k: Signed) -> Scalar:
    """lambda_x² <u, v>."""
    factor = lambda_x(x, k)
    return factor * factor * dot(u, v)


def norm(x: Vector, u: Vector, k: Signed) -> Scalar:
    """lambda_x |u|, with gradient 0 at u = 0."""
    return lambda_x(x, k) * trig.sqrt_or_zero(dot(u, u))


def egrad2rgrad(x: Vector, grad: Vector, k: Signed) -> Vector:
    """grad/lambda_x²."""
    half = conformal(x, k) / 2
    return grad * (half * half)


def half_distance(x: Vector, y: Vector, a: Scalar, b: Scalar, k: Signed) -> tuple[Scalar, Scalar, Scalar, Any]:
    """(q, T, half, wide): d/2 is `half` if `wide`, else sqrt(q) T, with q = |y - x|²/(A B) and T smooth where the points coincide.

    On the sphere sin(d/2) does not determine d near d = pi; where `wide` is true, the angle is computed from sin and cos together.
    """
    k = as_curvature(k)
    w = y - x
    w2 = dot(w, w)
    q = trig.over(w2, a * b)
    if not k.spherical:
        return q, trig.arsinh_ratio(k.value * q), q, None
    k = k.value
    wide = k * q > 0.1  # the end of arsin's series: rows `sphere dist` of accuracy/table.csv have both sides
    sine = jnp.sqrt(jnp.where(wide, k * w2, 1))
    half = jnp.arctan2(sine, jnp.sqrt(cosine2(x, y, k, wide))) / jnp.sqrt(jnp.where(wide, k, 1))
    return q, trig.arsinh_ratio(jnp.where(wide, 0, k * q)), half, wide


def cosine2(x: Vector, y: Vector, k: Number, used: Array) -> Scalar:
    """D = 1 + 2k<x,y> + k²|x|²|y|² on the sphere, 0 at antipodes."""
    return separation(-x, y, 1.0, k, used)


def separation(x: Vector, y: Vector, one: Scalar | float, k: Number, used: Array) -> Scalar:
    """one - 2k<x,y> + k²|x|²|y|²/one, for k > 0: 0 where x + y is at infinity. `used` says where the result matters.

    There the terms cancel, and it is computed as |one x - k|x|² y|²/(one |x|²).
    """
    x2, y2 = dot(x, x), dot(y, y)
    product = k * k * x2 * y2 / one
    plain = one - 2 * k * dot(x, y) + product
    meets = used & (plain < 0.25 * (one + product))
    x2 = jnp.where(meets, x2, 1)
    t = jnp.where(meets, one * x - k * x2 * y, 1)
    near = dot(t, t) / (one * x2)
    # Only exact antipodes get here, as rounding separates others by eps (rows `sphere gyration`, `sphere logmap` of accuracy/table.csv).
    floor = jnp.where(used, (jnp.finfo(x.dtype).eps / 2) ** 2 * (one + product), 0)
    return jnp.maximum(jnp.where(meets, near, jnp.where(used, plain, 1)), floor)


def _chord(x: Vector, y: Vector, k: Number) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """q and T of `half_distance` for k <= 0, without the last axis of length 1.

    For one point against many, the transpose sums over the many, which is ten times slower on CPU with a trailing axis of length 1.
    """
    w = y - x
    a, b, w2 = (jnp.squeeze(v, -1) for v in (conformal(x, k), conformal(y, k), dot(w, w)))
    q = trig.over(w2, a * b)
    return q, trig.arsinh_ratio((jnp.squeeze(k, -1) if jnp.ndim(k) else k) * q)


def dist(x: Vector, y: Vector, k: Signed) -> Scalar:
    """Geodesic distance 2 arsin_k(|y - x|/sqrt((1 + k|x|²)(1 + k|y|²))); gradient 0 where x = y.

    Without the branch for the sphere it takes less than half the time.
    """
    k = as_curvature(k)
    if not k.spherical:
        q, ratio = _chord(x, y, k.value)
        return jnp.expand_dims(2 * trig.sqrt_or_zero(q) * ratio, -1)
    q, ratio, half, wide = half_distance(x, y, conformal(x, k), conformal(y, k), k)
    return jnp.where(wide, 2 * half, 2 * trig.sqrt_or_zero(q) * ratio)


def dist2(x: Vector, y: Vector, k: Signed) -> Scalar:
    """Squared distance, smooth where x = y."""
    k = as_curvature(k)
    if not k.spherical:
        q, ratio = _chord(x, y, k.value)
        return jnp.expand_dims(4 * q * (ratio * ratio), -1)
    q, ratio, half, wide = half_distance(x, y, conformal(x, k), conformal(y, k), k)
    return jnp.where(wide, 4 * half * half, 4 * q * (ratio * ratio))


def dist0(x: Vector, k: Signed) -> Scalar:
    """Distance to the origin 2 artan_k|x|; NaN outside of the ball, by more than the sum of the squares rounds."""
    square = dot(x, x)
    outside = -number(k) * square > 1 + (x.shape[-1] + 8) * jnp.finfo(x.dtype).eps
    return one_or_nan(~outside, square.dtype) * 2 * trig.artan_k(trig.sqrt_or_zero(square), k)
