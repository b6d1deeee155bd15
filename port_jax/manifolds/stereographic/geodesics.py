"""Exponential, logarithm, geodesics and transports of the stereographic model of curvature k: pure functions of arrays."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.row_products import bounded, dot, far_and_flat
from port_jax.manifolds.signed import Signed, as_curvature
from port_jax.manifolds.stereographic.gyrogroup import gyration, mobius_add_fraction
from port_jax.manifolds.stereographic.metric import conformal, cosine2, half_distance

__all__ = ["expmap", "geodesic", "geodesic_unit", "logmap", "parallel_transport", "parallel_transport0", "parallel_transport0back"]

Vector = Float[Array, "*batch d"]


def expmap(x: Vector, u: Vector, k: Signed) -> Vector:
    """Exponential map x + tan_k(lambda_x |u|/2) u/|u|."""
    k = as_curvature(k)
    a = conformal(x, k)
    v, square = bounded(u, a)
    sin, cos, b = trig.tan_homogeneous(k * square)
    end = mobius_add_fraction(x, sin * v, cos, a, b, k)
    return jnp.where(far_and_flat(square, k.value), x + u, end) if k.spherical else end


def logmap(x: Vector, y: Vector, k: Signed) -> Vector:
    """Logarithm (2/lambda_x) artan_k|v| v/|v| of v = (-x) + y."""
    c = as_curvature(k)
    k = c.value
    a, b, w = conformal(x, k), conformal(y, k), y - x
    w2 = dot(w, w)
    _, ratio, half, wide = half_distance(x, y, a, b, c)
    near = trig.denominator(a * b - k * w2)
    # The factor is A d/(2|w|)/sqrt(D), with d/2 = T|w|/sqrt(A B).
    if not c.spherical:
        return ratio * jnp.sqrt(trig.over(a, b * near)) * (k * w2 * x + a * w)
    far = k * w2 > 1
    first = jnp.where(far, -(1 + 2 * k * dot(x, y) - k * dot(y, y)), k * w2)
    direction = first * x + a * jnp.where(far, y, w)
    d = jnp.where(far, cosine2(x, y, k, far), near)
    square = trig.over(jnp.where(wide, a * a, a), jnp.where(wide, w2, b) * d)
    return jnp.where(wide, half, ratio) * jnp.sqrt(square) * direction


def geodesic(t: Float[Array, "..."], x: Vector, y: Vector, k: Signed) -> Vector:
    """The point at time t of the geodesic with x at 0 and y at 1; t broadcasts against the points, last axis included."""
    return expmap(x, t * logmap(x, y, k), k)


def geodesic_unit(t: Float[Array, "..."], x: Vector, u: Vector, k: Signed) -> Vector:
    """The point at arc length t of the geodesic from x in the direction of u (x for u = 0)."""
    u, u2 = bounded(u)
    unit = trig.over(u, jnp.sqrt(jnp.where(u2 > 0, u2, 1)))
    sin, cos, b = trig.tan_fraction(t / 2, k)
    # b belongs to a direction of length 1; without a direction the point stays at x.
    b = jnp.where(u2 > 0, b, cos * cos)
    return mobius_add_fraction(x, sin * unit, cos, conformal(x, k), b, k)


def parallel_transport(x: Vector, y: Vector, v: Vector, k: Signed) -> Vector:
    """gyr[y, -x] v lambda_x/lambda_y."""
    return gyration(y, -x, v, k) * (conformal(y, k) / conformal(x, k))


def parallel_transport0(y: Vector, v: Vector, k: Signed) -> Vector:
    """Transport from the origin to y: v (1 + k|y|²)."""
    return v * conformal(y, k)


def parallel_transport0back(x: Vector, v: Vector, k: Signed) -> Vector:
    """Transport from x to the origin: v/(1 + k|x|²)."""
    return trig.over(v, conformal(x, k))
