"""Gyrovector algebra of the stereographic model, for any curvature k: pure functions of arrays.

Moebius addition is usually written ((1 - 2k<x,y> - k|y|²) x + (1 + k|x|²) y) / (1 - 2k<x,y> + k²|x|²|y|²). With w = x + y,
A = 1 + k|x|², B = 1 + k|y|² the same point is (A w - k|w|² x) / (A B - k|w|²), which for k <= 0 adds positive numbers only and
keeps full relative precision where x and -y nearly agree. Elsewhere, where |w| is not short against x and y, the usual form is the
better one, its derivatives at the boundary above all.

`spherical=False` promises k <= 0, as `PoincareBall` does, and leaves what is for k > 0 out: the results are the same.

Ungar, "Analytic hyperbolic geometry" (2008), chapters 2 and 3; Bachmann et al. (2020), section 2 for k of any sign.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.row_products import inner_products

Vector = Float[Array, "*batch d"]
Scalar = Float[Array, "*batch 1"]
Curvature = Float[Array, "..."]


def dot(x: Vector, y: Vector) -> Scalar:
    """Euclidean inner product over the last axis, kept with length 1."""
    return jnp.sum(x * y, axis=-1, keepdims=True)


@jax.custom_jvp
def conformal(x: Vector, k: Curvature) -> Scalar:
    """2/lambda_x = 1 + k|x|², right up to the last float before the boundary; half an eps on the boundary and beyond.

    x = h + l with h on a grid so coarse that |h|² is exact in any order of summation, fused with products or not, and
    |x|² = |h|² + <l, x + h>. So 1 - |x|² is off by eps^(3/2) where the plain sum is off by eps: the table's rows `ball lambda_x`. Those
    end at the last float inside; the half eps is for points beyond it, which the ball does not have.
    """
    dtype = jnp.result_type(x, k)
    x, k = jnp.asarray(x, dtype), jnp.asarray(k, dtype)
    h = on_grid(x, k)
    total, rest = inner_products(h, h, x - h, x + h)
    return conformal_of_sums(total, rest, k)


def on_grid(x: Vector, k: Curvature) -> Vector:
    """x rounded to multiples of a power of two, 2^half of them in the radius; 0 for k >= 0."""
    info = jnp.finfo(x.dtype)
    half = (info.nmant + 1) // 2
    # a power of two at or above the radius 1/sqrt(-k), divided in 2^half cells
    radius = jnp.sqrt(1 / jnp.where(k < 0, -k, 1))
    cell = 2 * jax.lax.reduce_precision(radius, info.nexp, 0) * 2.0**-half
    return jnp.round(x * jnp.where(k < 0, 1 / cell, 0)) * cell


def conformal_of_sums(total: Scalar, rest: Scalar, k: Curvature) -> Scalar:
    """`conformal` from |h|² and <x - h, x + h>."""
    info = jnp.finfo(total.dtype)
    head = lambda a: jax.lax.reduce_precision(a, info.nexp, (info.nmant - 1) // 2)  # noqa: E731
    k_head, total_head = head(k), head(total)
    k_rest, total_rest = k - k_head, total - total_head
    cross = k_head * total_rest + k_rest * total_head
    value = ((1 + k_head * total_head) + cross) + (k_rest * total_rest + k * rest)
    return jnp.where(value > 0, value, info.eps / 2)


@conformal.defjvp
def _(primals: tuple[Vector, Curvature], tangents: tuple[Vector, Curvature]) -> tuple[Scalar, Scalar]:
    (x, k), (dx, dk) = primals, tangents
    return conformal(x, k), 2 * k * dot(x, dx) + dk * dot(x, x)


def boundary_margin(dtype: Any) -> float:
    """How far, relative to the radius, `project` keeps points from the boundary: geoopt's values, and what half precision resolves.

    The table's rows `ball projx` and `ball retr`; every other row is of results before projection.
    """
    if dtype == jnp.float64:
        return 1e-5
    return max(4e-3, 4 * float(jnp.finfo(dtype).eps))


def project(x: Vector, k: Curvature, eps: float | None = None) -> Vector:
    """x, or for k < 0 its multiple of norm (1 - eps)/sqrt(-k) where it is longer."""
    x = jnp.asarray(x)
    eps = boundary_margin(x.dtype) if eps is None else eps
    limit = ((1 - eps) / jnp.sqrt(jnp.where(k < 0, -k, 1))).astype(x.dtype)
    square = dot(x, x)
    outside = (k < 0) & (square > limit * limit)
    return x * (jnp.where(outside, limit, 1) / jnp.sqrt(jnp.where(outside, square, 1)))


def mobius_add_fraction(x: Vector, s: Vector, c: Scalar | float, a: Scalar, b: Scalar, k: Curvature, *, spherical: bool = True) -> Vector:
    """x + s/c, with a = 1 + k|x|² and b = c² + k|s|² given by the caller, who may know them better than the squares tell."""
    w = c * x + s
    w2 = dot(w, w)
    x2, xs, s2 = c * c * dot(x, x), c * dot(x, s), dot(s, s)
    far = 4 * w2 > x2 + s2
    first = jnp.where(far, c * c - 2 * k * xs - k * s2, -k * w2)
    second = jnp.where(far, s, w)
    usual = separation(c * x, s, c * c, k, far) if spherical else 1 - 2 * k * xs + (k * x2) * (k * s2)
    denominator = trig.denominator(jnp.where(far, usual, a * b - k * w2))
    fraction = trig.over(first * x + a * c * second, denominator)
    # A short step is added to x: a fraction rounds by the same amount again at every step of a long run. Derivatives are the fraction's:
    # at the boundary the derivative of the step cancels against that of x (the table's rows `ball expmap d/dx`).
    step = x + a * (c * s - k * s2 * x) / denominator
    return fraction + jax.lax.stop_gradient(jnp.where(4 * s2 < x2, step - fraction, 0))


def separation(x: Vector, y: Vector, one: Scalar | float, k: Curvature, used: Array) -> Scalar:
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
    # The rounding of the arguments alone separates them by eps: only exact antipodes meet this (rows `sphere gyration`, `sphere logmap`).
    floor = jnp.where(used, (jnp.finfo(x.dtype).eps / 2) ** 2 * (one + product), 0)
    return jnp.maximum(jnp.where(meets, near, jnp.where(used, plain, 1)), floor)


def mobius_add(x: Vector, y: Vector, k: Curvature, *, spherical: bool = True) -> Vector:
    """x + y in the gyrogroup."""
    return mobius_add_fraction(x, y, 1.0, conformal(x, k), conformal(y, k), k, spherical=spherical)


def mobius_sub(x: Vector, y: Vector, k: Curvature, *, spherical: bool = True) -> Vector:
    """x + (-y)."""
    return mobius_add(x, -y, k, spherical=spherical)


def mobius_coadd(x: Vector, y: Vector, k: Curvature) -> Vector:
    """Coaddition x + gyr[x, -y] y = (B x + A y)/(1 - k²|x|²|y|²), the commutative one."""
    a, b, w = conformal(x, k), conformal(y, k), x + y
    # For k < 0, sums of positive numbers; where, for any k, x and -y nearly agree, B x + A y = B w + (A - B) y with A - B = k<x - y, w>.
    cancels = jnp.where(k < 0, dot(x, y) < 0, dot(w, w) < 0.1 * (dot(x, x) + dot(y, y)))
    numerator = jnp.where(cancels, b * w + k * dot(x - y, w) * y, b * x + a * y)
    denominator = jnp.where(k < 0, a + b * (1 - a), 1 - k * k * dot(x, x) * dot(y, y))
    # On the sphere the point is at infinity where this is 0, which the rounding of the arguments alone keeps eps away: the rows
    # `sphere mobius_coadd` and `sphere mobius_cosub` stay within their conditioning.
    least = jnp.where(k > 0, jnp.finfo(x.dtype).eps / 2, jnp.finfo(x.dtype).tiny).astype(x.dtype)
    return trig.over(numerator, jnp.where(jnp.abs(denominator) < least, least, denominator))


def mobius_cosub(x: Vector, y: Vector, k: Curvature) -> Vector:
    """x coadded with -y."""
    return mobius_coadd(x, -y, k)


def gyration(x: Vector, y: Vector, z: Vector, k: Curvature, *, spherical: bool = True) -> Vector:
    """gyr[x, y] z, the rotation that makes up for the missing associativity: x + (y + z) = (x + y) + gyr[x, y] z."""
    a, b = conformal(x, k), conformal(y, k)
    w = x + y
    w2, wz, yz, xz = dot(w, w), dot(w, z), dot(y, z), dot(x, z)
    x2, y2, xy = dot(x, x), dot(y, y), dot(x, y)
    far = 4 * w2 > x2 + y2
    # Near: written with w = x + y, which vanishes where the gyration becomes the identity.
    first = jnp.where(far, k * (2 * k * xy * yz - yz - k * xz * y2), k * (k * w2 * yz - b * wz))
    second = jnp.where(far, k * (xz - k * yz * x2), k * (wz - a * yz))
    plain = 1 - 2 * k * xy + (k * x2) * (k * y2)
    if not spherical:
        return z + 2 * (first * x + second * jnp.where(far, y, w)) / trig.denominator(jnp.where(far, plain, a * b - k * w2))
    # x + y is at infinity where t = x - k|x|² y is 0, and both parts of the fraction vanish there. But in the plane of x and y, as
    # complex numbers, the gyration turns by (1 - k x y*)/(1 - k x* y) = x t*/(x* t), twice the angle from t to x: two reflections.
    pole = far & (plain < 0.25 * (1 + k * k * x2 * y2))
    denominator = jnp.where(pole, 1, jnp.where(far, plain, a * b - k * w2))
    turned = z + 2 * (first * x + second * jnp.where(far, y, w)) / trig.denominator(denominator)
    t = jnp.where(pole, x - k * x2 * y, 1)
    return jnp.where(pole, _reflection(jnp.where(pole, x, 1), _reflection(t, z)), turned)


def _reflection(v: Vector, z: Vector) -> Vector:
    """z with its part across v negated, 2<v, z> v/|v|² - z; -z for v = 0."""
    v2 = dot(v, v)
    return 2 * dot(v, z) / jnp.where(v2 > 0, v2, 1) * v - z


def mobius_scalar_mul(r: Float[Array, "..."], x: Vector, k: Curvature, *, spherical: bool = True) -> Vector:
    """r times x along its ray: tan_k(r artan_k|x|) x/|x|."""
    s = k * dot(x, x)
    q = r * trig.artan_ratio(s, spherical=spherical)
    return q * trig.tan_ratio(s * q * q, spherical=spherical) * x


def _stretched(x: Vector, fx: Vector, k: Curvature, spherical: bool) -> Vector:
    """expmap0(f(logmap0(x))) for linear f, given f(x): the ratio of artan_k commutes with f."""
    q = trig.artan_ratio(k * dot(x, x), spherical=spherical)
    return q * fx * trig.tan_ratio(k * q * q * dot(fx, fx), spherical=spherical)


def mobius_matvec(m: Float[Array, "*batch e d"], x: Vector, k: Curvature, *, spherical: bool = True) -> Float[Array, "*batch e"]:
    """The matrix m applied in the tangent space of the origin."""
    high = jax.lax.Precision.HIGHEST
    if m.ndim == 2:
        return _stretched(x, jnp.matmul(x, m.T, precision=high), k, spherical)
    return _stretched(x, jnp.matmul(m, x[..., None], precision=high)[..., 0], k, spherical)


def mobius_pointwise_mul(w: Float[Array, "..."], x: Vector, k: Curvature, *, spherical: bool = True) -> Vector:
    """The diagonal matrix of w applied in the tangent space of the origin."""
    return _stretched(x, w * x, k, spherical)


def expmap0(u: Vector, k: Curvature, *, spherical: bool = True) -> Vector:
    """Exponential map at the origin: tan_k|u| u/|u|."""
    return u * trig.tan_ratio(k * dot(u, u), spherical=spherical)


def logmap0(y: Vector, k: Curvature, *, spherical: bool = True) -> Vector:
    """Logarithm at the origin: artan_k|y| y/|y|."""
    return y * trig.artan_ratio(k * dot(y, y), spherical=spherical)


def mobius_fn_apply_chain(x: Vector, *fns: Callable[[Vector], Vector], k: Curvature) -> Vector:
    """The functions one after another in the tangent space of the origin; x itself without functions."""
    if not fns:
        return x
    u = logmap0(x, k)
    for fn in fns:
        u = fn(u)
    return expmap0(u, k)


def mobius_fn_apply(fn: Callable[..., Vector], x: Vector, *args: Any, k: Curvature, **kwargs: Any) -> Vector:
    """fn(logmap0(x), *args, **kwargs), mapped back."""
    return expmap0(fn(logmap0(x, k), *args, **kwargs), k)


def mobiusify(fn: Callable[..., Vector]) -> Callable[..., Vector]:
    """fn as a function of points: `mobiusify(fn)(x, *args, k=k, **kwargs)`."""

    def mobius_fn(x: Vector, *args: Any, k: Curvature, **kwargs: Any) -> Vector:
        return mobius_fn_apply(fn, x, *args, k=k, **kwargs)

    return mobius_fn


def antipode(x: Vector, k: Curvature) -> Vector:
    """The point opposite to x: -x/(k|x|²) on the sphere (0 for x = 0, whose antipode is at infinity), -x for k <= 0."""
    size = trig.binary_scale(x)
    p = x / size  # powers of |x| and of k one after another: the derivative holds their product, and no larger number
    p2 = dot(p, p)
    there = (k > 0) & (p2 > 0)
    return jnp.where(there, -trig.over(trig.over(p, jnp.where(there, p2, 1)) / size, jnp.where(there, k, 1)), -x)
