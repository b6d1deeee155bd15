"""geoopt's formulas for ways to the origin and from it, by all coordinates of the points, as the layers of HyperbolicCV use them.

Formulas that are equal on the hyperboloid differ beside it, and there a trained radius leaves the points that it moves without, and an
optimizer for flat space its points. They also round otherwise, and have other bounds near a point and far from it. A network goes on as
it was trained only by those that it was trained with. `geodesics` has the accurate ones.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds.hyperboloid.metric import inner, join, time_of
from port_jax.manifolds.row_products import dot

__all__ = ["LONGEST", "SHORTEST", "carried_from_origin", "carried_to_origin", "exp0", "log0", "onto"]

Vector = Float[Array, "*batch d+1"]
Space = Float[Array, "*batch d"]
Scalar = Float[Array, "*batch 1"]
Number = Float[Array, "..."]

SHORTEST = 1e-4
"""Shorter lengths count as this one: geoopt's bound on squares, 1e-8."""
LONGEST = 10.0
"""The longest way in units of √k: `EXP_MAX_NORM` of the copy of geoopt in HyperbolicCV. geoopt itself has no such bound."""


def exp0(u: Space, k: Number) -> Vector:
    """exp_0 of the vector with these coordinates: space part √k sinh(r) u/|u|, r = min(|u|/√k, 10)."""
    root = jnp.sqrt(jnp.asarray(k, u.dtype))
    length = _length(dot(u, u))
    p = root * jnp.sinh(jnp.minimum(length / root, LONGEST)) * (u / length)
    return join(time_of(p, root * root), p)


def log0(y: Vector, k: Number) -> Space:
    """The coordinates of log_0 y: √k arcosh(y_t/√k) y_s/|y_s|."""
    root, space = jnp.sqrt(jnp.asarray(k, y.dtype)), y[..., 1:]
    return root * _arcosh(y[..., :1] / root) * (space / _length(dot(space, space)))


def onto(a: Vector, k: Number, least: float = SHORTEST) -> Vector:
    """√k a/|a|: the centroid, if a is the mean of points, or their sum with weights. Its time is not recomputed.

    least: shorter a count as of this length."""
    return jnp.sqrt(jnp.asarray(k, a.dtype)) * a / _length(jnp.abs(inner(a, a)), least)


def carried_to_origin(x: Vector, y: Vector, k: Number) -> Vector:
    """PT_{x→0} log_x y = v - ⟨m, v⟩ (m + n) with the unit vectors m towards the origin at x and n towards x at the origin (`_axis`).

    v = d(x, y) w/|w|, w = y + ⟨x, y⟩ x/k, d(x, y) = √k arcosh(-⟨x, y⟩/k), with Minkowski's products. In geoopt's formula stand the
    logarithms d(0, x) m and d(0, x) n, divided by d(0, x)². The time of the result is 0 but for rounding.
    """
    k = jnp.asarray(k, x.dtype)
    product = inner(x, y)
    w = y + product / k * x
    v = jnp.sqrt(k) * _arcosh(-product / k) * (w / _length(inner(w, w)))
    m, n = _axis(x, k)
    return v - inner(m, v) * (m + n)


def carried_from_origin(y: Vector, u: Vector, k: Number) -> Vector:
    """exp_y(v), v = PT_{0→y} u = u - ⟨n, u⟩ (m + n), for tangent vectors u at the origin; no farther than 10 √k from y.

        w = v + ⟨y, v⟩ y/k,   p = cosh(r) y + √k sinh(r) w/|w|,   r = min(|w|/√k, 10)

    and the time of p is recomputed. m and n are those of `carried_to_origin`.
    """
    k = jnp.asarray(k, y.dtype)
    root = jnp.sqrt(k)
    m, n = _axis(y, k)
    v = u - inner(n, u) * (m + n)
    w = v + inner(y, v) * y / k
    length = _length(inner(w, w))
    r = jnp.minimum(length / root, LONGEST)
    p = jnp.cosh(r) * y[..., 1:] + root * jnp.sinh(r) * (w[..., 1:] / length)
    return join(time_of(p, k), p)


def _axis(x: Vector, k: Number) -> tuple[Vector, Vector]:
    """m/|m| and n/|n|, m = o - x_t x/√k and n = (0, x_s): what is parallel to log_x(0) and to log_0(x), o = (√k, 0)."""
    root, time, space = jnp.sqrt(k), x[..., :1], x[..., 1:]
    ahead = time / root
    m = join(root - time * ahead, -ahead * space)
    n = join(jnp.zeros_like(time), space)
    return m / _length(inner(m, m)), n / _length(dot(space, space))


def _length(square: Scalar, least: float = SHORTEST) -> Scalar:
    """The root of a square, and at least `least`, with derivative 0 below."""
    return jnp.sqrt(jnp.maximum(square, least**2))


def _arcosh(z: Scalar) -> Scalar:
    """log(z + sqrt(max(z² - 1, 1e-15))), with the digits that geoopt has by computing it in float64."""
    beyond = z - 1
    return jnp.log1p(beyond + jnp.sqrt(jnp.maximum(beyond * (z + 1), 1e-15)))
