"""Gyrovector algebra of the stereographic model, for any curvature k: pure functions of arrays.

Moebius addition is usually written ((1 - 2k<x,y> - k|y|²) x + (1 + k|x|²) y) / (1 - 2k<x,y> + k²|x|²|y|²). With w = x + y,
A = 1 + k|x|², B = 1 + k|y|² the same point is (A w - k|w|² x) / (A B - k|w|²), which for k <= 0 adds positive numbers only and
keeps full relative precision where x and -y nearly agree. Where |w| is not small compared to x and y, the usual form is
more accurate, in particular its derivatives at the boundary.

Ungar, "Analytic hyperbolic geometry" (2008), chapters 2 and 3; Bachmann et al. (2020), section 2 for k of any sign.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.row_products import bounded, dot, far_and_flat
from port_jax.manifolds.signed import Signed, as_curvature, number
from port_jax.manifolds.stereographic.metric import conformal, separation
from port_jax.primitives import where

__all__ = [
    "antipode",
    "expmap0",
    "gyration",
    "logmap0",
    "mobius_add",
    "mobius_add_fraction",
    "mobius_coadd",
    "mobius_cosub",
    "mobius_fn_apply",
    "mobius_fn_apply_chain",
    "mobius_matvec",
    "mobius_pointwise_mul",
    "mobius_scalar_mul",
    "mobius_sub",
    "mobiusify",
]

Vector = Float[Array, "*batch d"]
Scalar = Float[Array, "*batch 1"]


def mobius_add_fraction(x: Vector, s: Vector, c: Scalar | float, a: Scalar, b: Scalar, k: Signed) -> Vector:
    """x + s/c, with a = 1 + k|x|² and b = c² + k|s|² given by the caller, who may know them more accurately than from squares."""
    k, spherical = as_curvature(k).value, as_curvature(k).spherical
    x2, s2 = c * c * dot(x, x), dot(s, s)
    # what is smaller than the result is broadcast once, so that its derivative is one sum over the rows and not one for each use
    x, s = jnp.broadcast_arrays(x, s)
    k, s2, b = (jnp.broadcast_to(v, jnp.broadcast_shapes(jnp.shape(v), (*x.shape[:-1], 1))) for v in (k, s2, b))
    w = c * x + s
    w2, xs = dot(w, w), c * dot(x, s)
    far = 4 * w2 > x2 + s2
    first = where(far, c * c - 2 * k * xs - k * s2, -k * w2)
    second = where(far, s, w)
    usual = separation(c * x, s, c * c, k, far) if spherical else 1 - 2 * k * xs + (k * x2) * (k * s2)
    denominator = trig.denominator(jnp.where(far, usual, a * b - k * w2))
    fraction = trig.over(first * x + a * c * second, denominator)
    # A short step is added to x, because the fraction would round by the same amount at every step of a long run. Derivatives are the
    # fraction's: at the boundary that of the step cancels against that of x (rows `ball expmap d/dx` of accuracy/table.csv).
    step = x + a * (c * s - k * s2 * x) / denominator
    return fraction + jax.lax.stop_gradient(jnp.where(4 * s2 < x2, step - fraction, 0))


def mobius_add(x: Vector, y: Vector, k: Signed) -> Vector:
    """x + y in the gyrogroup."""
    return mobius_add_fraction(x, y, 1.0, conformal(x, k), conformal(y, k), k)


def mobius_sub(x: Vector, y: Vector, k: Signed) -> Vector:
    """x + (-y)."""
    return mobius_add(x, -y, k)


def mobius_coadd(x: Vector, y: Vector, k: Signed) -> Vector:
    """Coaddition x + gyr[x, -y] y = (B x + A y)/(1 - k²|x|²|y|²), the commutative one."""
    k = number(k)
    a, b, w = conformal(x, k), conformal(y, k), x + y
    # For k < 0, sums of positive numbers; where, for any k, x and -y nearly agree, B x + A y = B w + (A - B) y with A - B = k<x - y, w>.
    cancels = jnp.where(k < 0, dot(x, y) < 0, dot(w, w) < 0.1 * (dot(x, x) + dot(y, y)))
    numerator = jnp.where(cancels, b * w + k * dot(x - y, w) * y, b * x + a * y)
    denominator = jnp.where(k < 0, a + b * (1 - a), 1 - k * k * dot(x, x) * dot(y, y))
    # On the sphere the point is at infinity where this is 0, from which rounding of the arguments keeps it eps away: in the
    # rows `sphere mobius_coadd` and `sphere mobius_cosub` of accuracy/table.csv errors are within the conditioning.
    least = jnp.where(k > 0, jnp.finfo(x.dtype).eps / 2, jnp.finfo(x.dtype).tiny).astype(x.dtype)
    return trig.over(numerator, jnp.where(jnp.abs(denominator) < least, least, denominator))


def mobius_cosub(x: Vector, y: Vector, k: Signed) -> Vector:
    """x coadded with -y."""
    return mobius_coadd(x, -y, k)


def gyration(x: Vector, y: Vector, z: Vector, k: Signed) -> Vector:
    """gyr[x, y] z, the rotation that corrects for the missing associativity: x + (y + z) = (x + y) + gyr[x, y] z."""
    k, spherical = as_curvature(k).value, as_curvature(k).spherical
    a, b = conformal(x, k), conformal(y, k)
    w = x + y
    w2, wz, yz, xz = dot(w, w), dot(w, z), dot(y, z), dot(x, z)
    x2, y2, xy = dot(x, x), dot(y, y), dot(x, y)
    far = 4 * w2 > x2 + y2
    # Near: in terms of w = x + y, which vanishes where the gyration becomes the identity.
    first = where(far, k * (2 * k * xy * yz - yz - k * xz * y2), k * (k * w2 * yz - b * wz))
    second = where(far, k * (xz - k * yz * x2), k * (wz - a * yz))
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
    """z with its part orthogonal to v negated, 2<v, z> v/|v|² - z; -z for v = 0."""
    v2 = dot(v, v)
    return 2 * dot(v, z) / jnp.where(v2 > 0, v2, 1) * v - z


def mobius_scalar_mul(r: Float[Array, "..."], x: Vector, k: Signed) -> Vector:
    """r times x along its ray: tan_k(r artan_k|x|) x/|x|."""
    s = as_curvature(k) * dot(x, x)
    q = r * trig.artan_ratio(s)
    return q * trig.tan_ratio(s * q * q) * x


def _stretched(x: Vector, fx: Vector, k: Signed) -> Vector:
    """expmap0(f(logmap0(x))) for linear f, given f(x): the ratio of artan_k commutes with f."""
    k = as_curvature(k)
    q = trig.artan_ratio(k * dot(x, x))
    return q * fx * trig.tan_ratio(k * q * q * dot(fx, fx))


def mobius_matvec(m: Float[Array, "*batch e d"], x: Vector, k: Signed) -> Float[Array, "*batch e"]:
    """The matrix m applied in the tangent space of the origin."""
    high = jax.lax.Precision.HIGHEST
    if m.ndim == 2:
        return _stretched(x, jnp.matmul(x, m.T, precision=high), k)
    return _stretched(x, jnp.matmul(m, x[..., None], precision=high)[..., 0], k)


def mobius_pointwise_mul(w: Float[Array, "..."], x: Vector, k: Signed) -> Vector:
    """The diagonal matrix of w applied in the tangent space of the origin."""
    return _stretched(x, w * x, k)


def expmap0(u: Vector, k: Signed) -> Vector:
    """Exponential map at the origin: tan_k|u| u/|u|."""
    k, (v, square) = as_curvature(k), bounded(u)
    if k.spherical:  # k may be 0
        v = jnp.where(far_and_flat(square, k.value), u, v)
    return v * trig.tan_ratio(k * square)


def logmap0(y: Vector, k: Signed) -> Vector:
    """Logarithm at the origin: artan_k|y| y/|y|."""
    return y * trig.artan_ratio(as_curvature(k) * dot(y, y))


def mobius_fn_apply_chain(x: Vector, *fns: Callable[[Vector], Vector], k: Signed) -> Vector:
    """The functions applied one after another in the tangent space of the origin; x itself without functions."""
    if not fns:
        return x
    u = logmap0(x, k)
    for fn in fns:
        u = fn(u)
    return expmap0(u, k)


def mobius_fn_apply(fn: Callable[..., Vector], x: Vector, *args: Any, k: Signed, **kwargs: Any) -> Vector:
    """fn(logmap0(x), *args, **kwargs), mapped back."""
    return expmap0(fn(logmap0(x, k), *args, **kwargs), k)


def mobiusify(fn: Callable[..., Vector]) -> Callable[..., Vector]:
    """fn as a function of points: `mobiusify(fn)(x, *args, k=k, **kwargs)`."""

    def mobius_fn(x: Vector, *args: Any, k: Signed, **kwargs: Any) -> Vector:
        return mobius_fn_apply(fn, x, *args, k=k, **kwargs)

    return mobius_fn


def antipode(x: Vector, k: Signed) -> Vector:
    """The point opposite to x: -x/(k|x|²) on the sphere (0 for x = 0, whose antipode is at infinity), -x for k <= 0."""
    k = number(k)
    size = trig.binary_scale(x)
    p = x / size  # powers of |x| and k one after another: their product appears in the derivative, but no larger number
    p2 = dot(p, p)
    there = (k > 0) & (p2 > 0)
    return jnp.where(there, -trig.over(trig.over(p, jnp.where(there, p2, 1)) / size, jnp.where(there, k, 1)), -x)
