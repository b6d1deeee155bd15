"""Trigonometry of constant curvature: tan, artan, sin and arsin as analytic functions of k x².

tan_k(x) is tan(sqrt(k) x)/sqrt(k) for k > 0, tanh(sqrt(-k) x)/sqrt(-k) for k < 0 and x for k = 0: one analytic function, x T(k x²).
Each *ratio* below is such a T: a Taylor series near s = 0, where the closed forms lose the derivative with respect to k, and the
closed form elsewhere. A vector map needs only the ratio, u T(k |u|²), so it has no norm and no division that could fail at u = 0.
An argument that is a `Curvature` with `spherical=False` promises k <= 0, and the branches for k > 0 are left out.

Bachmann, Bécigneul, Ganea, "Constant curvature graph convolutional networks" (2020), section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from math import comb, factorial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from port_jax.manifolds.signed import Signed, as_curvature

__all__ = ["arcosh", "arcosh1p", "arsin_k", "arsin_ratio", "arsinh_ratio", "artan_k", "artan_ratio", "cos_k", "sin_k"]
__all__ += ["sin_ratio", "tan_fraction", "tan_homogeneous", "tan_k", "tan_ratio", "tanh"]
__all__ += ["TERMS", "binary_scale", "denominator", "over", "positive_part", "raw_float", "softplus_inverse", "sqrt_or_zero"]

Number = Float[Array, "..."]

TERMS = 18
"""Terms of each series: with the radii below the next one is under half an ulp of float64."""


def _tan_coefficients() -> list[Fraction]:
    # tan' = 1 + tan²: (2n+1) t_n is the sum of t_i t_j over i + j = n - 1.
    t = [Fraction(1)]
    for n in range(1, TERMS):
        t.append(sum((t[i] * t[n - 1 - i] for i in range(n)), Fraction(0)) / (2 * n + 1))
    return t


_TAN = _tan_coefficients()
_ARTAN = [Fraction((-1) ** n, 2 * n + 1) for n in range(TERMS)]
_SIN = [Fraction((-1) ** n, factorial(2 * n + 1)) for n in range(TERMS)]
_COS = [Fraction((-1) ** n, factorial(2 * n)) for n in range(TERMS)]
_ARSIN = [Fraction(comb(2 * n, n), 4**n * (2 * n + 1)) for n in range(TERMS)]

# |s| below which the series is used: its terms then shrink tenfold or faster (tan has its pole at pi²/4, artan and arsin at 1). The rows
# `flat dist d/dk`, `flat expmap d/dk` and `dist0` of accuracy/table.csv have both sides of the switch and the derivatives by k across 0.
_RADIUS_TAN, _RADIUS_ARC, _RADIUS_SIN = 0.25, 0.1, 1.0


def sqrt_or_zero(x: Number) -> Number:
    """sqrt(x), and 0 with derivative 0 where x <= 0; NaN stays NaN."""
    zero = x <= 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


@jax.custom_jvp
def over(v: Number, s: Number) -> Number:
    """v/s with one rounding where there is one s for each vector; where s is simply broadcast, XLA multiplies by 1/s.

    The second rounding would show in the p50 of the rows `transp0back` and `lorentz_to_poincare` of accuracy/table.csv. The derivative
    is free of 1/s², which underflows for far points (`lorentz lorentz_to_poincare d/dx` in float32).
    """
    return v / (s + 0 * v)


@over.defjvp
def _(primals: tuple[Number, Number], tangents: tuple[Number, Number]) -> tuple[Number, Number]:
    (v, s), (dv, ds) = primals, tangents
    ratio = over(v, s)
    return ratio, (dv - ratio * ds) / s


def positive_part(x: Number) -> Number:
    """x where it exceeds eps/2 of its dtype, else eps/2: a lower bound for (1 - r)(1 + r) where rounding made r equal to 1.

    The rows `ball dist0` and `ball logmap0` of accuracy/table.csv: at the last float before the boundary r rounds to 1, and the error
    stays within what the conditioning of the problem allows, where geoopt's bound 1 - 1e-7 leaves an error of 1e9 eps in float64.
    """
    return jnp.maximum(x, jnp.finfo(x.dtype).eps / 2)


def denominator(x: Number) -> Number:
    """x where it exceeds the smallest normal number, else that number; no case of accuracy/table.csv needs the bound.

    It is there for x - y at the boundary, where A B - k|w|² underflows in half precision, and for infinite arguments."""
    return jnp.maximum(x, jnp.finfo(x.dtype).tiny)


def _series(coefficients: Sequence[Fraction], s: Number) -> Number:
    terms = len(coefficients) if s.dtype == jnp.float64 else (len(coefficients) + 1) // 2
    total = jnp.full_like(s, float(coefficients[terms - 1]))
    for c in reversed(coefficients[: terms - 1]):
        total = total * s + float(c)
    return total


def _piecewise(
    s: Number,
    radius: float,
    coefficients: Sequence[Fraction],
    negative: Callable[[Number], Number],
    positive: Callable[[Number], Number] | None,
) -> Number:
    """The series where |s| < radius; else `negative` or `positive` of r = sqrt|s|, by the sign of s, or `negative` where that is all."""
    return _piecewise_root(s, radius, coefficients, negative, positive)[0]


def _ratio_piecewise(
    s: Number,
    radius: float,
    coefficients: Sequence[Fraction],
    negative: Callable[[Number], Number],
    positive: Callable[[Number], Number] | None,
) -> Number:
    """`_piecewise` with `negative` and `positive` over r.

    The division comes last and divides the series by 1: XLA on CPU keeps the result of a division for all coordinates of a row, where it
    computes products and choices anew for each of them.
    """
    top, r = _piecewise_root(s, radius, coefficients, negative, positive)
    return top / r


def _piecewise_root(
    s: Number,
    radius: float,
    coefficients: Sequence[Fraction],
    negative: Callable[[Number], Number],
    positive: Callable[[Number], Number] | None,
) -> tuple[Number, Number]:
    """The value, and r, which is 1 where the series is used."""
    near = jnp.abs(s) < radius
    # Each side gets an argument that is harmless to it, so that the branch not taken has finite derivatives.
    r = jnp.sqrt(jnp.where(near, 1, jnp.abs(s)))
    if positive is None:
        far = negative(r)
    else:
        r_negative, r_positive = jnp.where(s < 0, r, 1), jnp.where(s < 0, 1, r)
        far = jnp.where(s < 0, negative(r_negative), positive(r_positive))
    return jnp.where(near, _series(coefficients, jnp.where(near, s, 0)), far), r


def _along(ds: Number, s: Number, radius: float, coefficients: Sequence[Fraction], top: Callable[[Number], Number]) -> Number:
    """ds times the derivative of a ratio: its series where |s| < radius, else top(s)/(2s).

    A division comes last, as in `_ratio_piecewise`, but by r = sqrt|s| twice: 1/s underflows for far points, where cotangents are large.
    """
    near = jnp.abs(s) < radius
    far = jnp.where(near, -1, s)
    r = jnp.sqrt(jnp.abs(far))
    derived = [n * c for n, c in enumerate(coefficients)][1:]
    slope = jnp.where(near, _series(derived, jnp.where(near, s, 0)), top(far)) / jnp.where(near, 1, 2 * jnp.sign(far) * r)
    return slope * (ds / r)


def tanh(r: Number) -> Number:
    """tanh for r >= 1/2, from one exponential of a negative number."""
    e = jnp.exp(-2 * r)
    return (1 - e) / (1 + e)


def _sech2(r: Number) -> Number:
    e = jnp.exp(-2 * r)
    return 4 * e / ((1 + e) * (1 + e))


def _arsinh(r: Number) -> Number:
    # log1p(r + r²/(1 + sqrt(1 + r²))), with no square of a large number
    q = 1 / r
    return jnp.log1p(r + r / (q + jnp.sqrt(1 + q * q)))


def arcosh1p(z: Number) -> Number:
    """arcosh(1 + z) for z >= 0: 2 arsinh(sqrt(z/2)), with derivative 0 at z = 0."""
    return 2 * sqrt_or_zero(z / 2) * arsinh_ratio(-z / 2)


def arcosh(x: Number) -> Number:
    """arcosh for x >= 1, with derivative 0 at 1 and 0 below."""
    return arcosh1p(x - 1)


def _sinh(r: Number) -> Number:
    # For r >= 1 the difference loses nothing, and XLA's exp is within an ulp where its sinh and cosh are nine off.
    e = jnp.exp(r)
    return (e - 1 / e) / 2


def _cosh(r: Number) -> Number:
    e = jnp.exp(r)
    return (e + 1 / e) / 2


def _artanh(r: Number) -> Number:
    # (1 + r)/(1 - r) = 1 + 2 r (1 + r)/(1 - r²)
    return jnp.log1p(2 * r * (1 + r) / positive_part((1 - r) * (1 + r))) / 2


def _arcsin(r: Number) -> Number:
    return jnp.arctan2(r, jnp.sqrt(positive_part((1 - r) * (1 + r))))


def _sine(r: Number) -> Number:
    """r, or 1 where rounding made a sine exceed it: `sphere dist2plane` in accuracy/table.csv, at the points farthest from the plane."""
    return jnp.minimum(r, 1)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _tan_ratio(s: Number, spherical: bool) -> Number:
    return _ratio_piecewise(s, _RADIUS_TAN, _TAN, tanh, jnp.tan if spherical else None)


@_tan_ratio.defjvp
def _(spherical: bool, primals: tuple[Number], tangents: tuple[Number]) -> tuple[Number, Number]:
    """T' = (1 + s T² - T)/(2s), where 1 + s T² is sech²(sqrt(-s)) for s < 0."""
    (s,), (ds,) = primals, tangents
    ratio = _tan_ratio(s, spherical)

    def top(s: Number) -> Number:
        square = _sech2(jnp.sqrt(jnp.where(s < 0, -s, 1)))
        return (jnp.where(s < 0, square, 1 + s * ratio * ratio) if spherical else square) - ratio

    return ratio, _along(ds, s, _RADIUS_TAN, _TAN, top)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _artan_ratio(s: Number, spherical: bool) -> Number:
    return _ratio_piecewise(s, _RADIUS_ARC, _ARTAN, _artanh, jnp.arctan if spherical else None)


@_artan_ratio.defjvp
def _(spherical: bool, primals: tuple[Number], tangents: tuple[Number]) -> tuple[Number, Number]:
    """A' = (1/(1 + s) - A)/(2s)."""
    (s,), (ds,) = primals, tangents
    ratio = _artan_ratio(s, spherical)
    return ratio, _along(ds, s, _RADIUS_ARC, _ARTAN, lambda s: 1 / positive_part(1 + s) - ratio)


@jax.custom_jvp
def sin_ratio(s: Number) -> Number:
    """sin_k(x)/x at s = k x²."""
    return _ratio_piecewise(s, _RADIUS_SIN, _SIN, _sinh, jnp.sin)


@sin_ratio.defjvp
def _(primals: tuple[Number], tangents: tuple[Number]) -> tuple[Number, Number]:
    """S' = (cos_k - S)/(2s)."""
    (s,), (ds,) = primals, tangents
    ratio, cos = sin_ratio(s), cos_k(s)
    return ratio, _along(ds, s, _RADIUS_SIN, _SIN, lambda _: cos - ratio)


@jax.custom_jvp
def cos_k(s: Number) -> Number:
    """cos(sqrt(s)) for s > 0, cosh(sqrt(-s)) for s < 0."""
    return _piecewise(s, _RADIUS_SIN, _COS, _cosh, jnp.cos)


@cos_k.defjvp
def _(primals: tuple[Number], tangents: tuple[Number]) -> tuple[Number, Number]:
    """-S/2."""
    (s,), (ds,) = primals, tangents
    return cos_k(s), -0.5 * sin_ratio(s) * ds


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _arsin_ratio(s: Number, spherical: bool) -> Number:
    return _ratio_piecewise(s, _RADIUS_ARC, _ARSIN, _arsinh, (lambda r: _arcsin(_sine(r))) if spherical else None)


@_arsin_ratio.defjvp
def _(spherical: bool, primals: tuple[Number], tangents: tuple[Number]) -> tuple[Number, Number]:
    """R' = (1/sqrt(1 - s) - R)/(2s); beyond s = 1 the first term is 0."""
    (s,), (ds,) = primals, tangents
    ratio = _arsin_ratio(s, spherical)

    def top(s: Number) -> Number:
        if not spherical:
            return 1 / jnp.sqrt(1 - s) - ratio
        return jnp.where(s <= 1, 1 / jnp.sqrt(positive_part(1 - s)), 0) - ratio

    return ratio, _along(ds, s, _RADIUS_ARC, _ARSIN, top)


def tan_ratio(s: Signed) -> Number:
    """T(s) = tan_k(x)/x at s = k x²."""
    s = as_curvature(s)
    return _tan_ratio(s.value, s.spherical)


def artan_ratio(s: Signed) -> Number:
    """artan_k(x)/x at s = k x²."""
    s = as_curvature(s)
    return _artan_ratio(s.value, s.spherical)


def arsin_ratio(s: Number) -> Number:
    """arsin_k(x)/x at s = k x²; beyond s = 1 the arsin is that of 1."""
    return _arsin_ratio(s, True)


def arsinh_ratio(s: Number) -> Number:
    """`arsin_ratio` for s <= 0: arsinh(sqrt(-s))/sqrt(-s); meaningless for larger s."""
    return _arsin_ratio(s, False)


def tan_homogeneous(s: Signed) -> tuple[Number, Number | float, Number]:
    """tan_k(x)/x = S/C as a pair that stays finite at s = pi²/4, with C² + s S² free of cancellation.

    (S, C, C² + s S²) is (tanh(r)/r, 1, sech²(r)) for s < 0 and (sin(r)/r, cos(r), 1) for s > 0, with r = sqrt|s|.
    """
    s, spherical = as_curvature(s).value, as_curvature(s).spherical
    near = jnp.abs(s) < _RADIUS_TAN
    r = jnp.sqrt(jnp.where(near, 1, jnp.abs(s)))
    if not spherical:
        tan = _tan_ratio(s, False)
        return tan, 1.0, jnp.where(near, 1 + s * tan * tan, _sech2(r))
    tan = _ratio_piecewise(s, _RADIUS_TAN, _TAN, tanh, jnp.sin)
    cos = jnp.where(near | (s < 0), 1, jnp.cos(r))
    square = jnp.where(s < 0, _sech2(r), 1)
    return tan, cos, jnp.where(near, 1 + s * tan * tan, square)


def _number(
    x: Number,
    k: Number,
    radius: float,
    coefficients: Sequence[Fraction],
    negative: Callable[[Number], Number],
    positive: Callable[[Number], Number] | None,
) -> Number:
    """`_piecewise` times x. Far out it is f(r)/sqrt|k| itself: the derivative of a product of x and a ratio would cancel."""
    x, k = jnp.asarray(x), jnp.asarray(k, jnp.result_type(x))
    s = k * x * x
    near = jnp.abs(s) < radius
    far_k = jnp.where(near, 1, jnp.abs(k))
    r = jnp.where(near, 1, jnp.abs(x)) * jnp.sqrt(far_k)
    if positive is None:
        far = negative(r)
    else:
        r_negative, r_positive = jnp.where(s < 0, r, 1), jnp.where(s < 0, 1, r)
        far = jnp.where(s < 0, negative(r_negative), positive(r_positive))
    far = jnp.sign(x) * far / jnp.sqrt(far_k)
    return jnp.where(near, x * _series(coefficients, jnp.where(near, s, 0)), far)


def tan_k(x: Number, k: Number) -> Number:
    """tan(sqrt(k) x)/sqrt(k), for any sign of k."""
    return _number(x, k, _RADIUS_TAN, _TAN, tanh, jnp.tan)


def artan_k(x: Number, k: Signed) -> Number:
    """The inverse of tan_k."""
    k = as_curvature(k)
    return _number(x, k.value, _RADIUS_ARC, _ARTAN, _artanh, jnp.arctan if k.spherical else None)


def sin_k(x: Number, k: Number) -> Number:
    """sin(sqrt(k) x)/sqrt(k), for any sign of k."""
    return _number(x, k, _RADIUS_SIN, _SIN, _sinh, jnp.sin)


def arsin_k(x: Number, k: Signed) -> Number:
    """The inverse of sin_k."""
    k = as_curvature(k)
    return _number(x, k.value, _RADIUS_ARC, _ARSIN, _arsinh, (lambda r: _arcsin(_sine(r))) if k.spherical else None)


def tan_fraction(x: Number, k: Signed) -> tuple[Number, Number | float, Number]:
    """tan_k(x) = S/C as in `tan_homogeneous`, but of the number x, with S as the whole numerator."""
    k = as_curvature(k)
    _, cos, square = tan_homogeneous(k * x * x)
    return _number(x, k.value, _RADIUS_TAN, _TAN, tanh, jnp.sin if k.spherical else None), cos, square


def binary_scale(*arrays: Array) -> Array:
    """The power of two nearest to half the largest entry by absolute value along the last axis, 1 where all are 0.

    A constant for differentiation. Division by it rounds nothing, and squares of what is left neither overflow nor underflow. Its inverse,
    by which XLA multiplies rows, is a normal number.
    """
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(a), -1, keepdims=True) for a in jnp.broadcast_arrays(*arrays)]), 0)
    info = jnp.finfo(largest.dtype)
    half = jnp.minimum(jnp.where(largest > 0, largest, 2) / 2, 2.0 ** (info.maxexp - 2))
    return jax.lax.stop_gradient(jax.lax.reduce_precision(half, info.nexp, 0))


def softplus_inverse(c: float | Number) -> Number:
    """The raw parameter whose softplus is c: log(exp(c) - 1) = c + log(1 - exp(-c)), which does not overflow."""
    c = jnp.asarray(c)
    return c + jnp.log(-jnp.expm1(-c))


def raw_float(c: float) -> float:
    """`softplus_inverse` of a Python number, in double precision whatever JAX's default is."""
    return float(c + np.log(-np.expm1(-c)))
