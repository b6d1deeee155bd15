"""A step of points of the hyperboloid along their momentum, and the momentum transported to where they arrive.

As on the ball (`stereographic.fused_step`) all of it stays in the span of point and momentum: inner products of rows, three sweeps that
read and reduce, and three that overwrite. Equal to `Manifold.descend_along` up to rounding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds.base import Move
from port_jax.manifolds.hyperboloid.metric import shrinking
from port_jax.manifolds.row_products import inner_products

__all__ = ["descend_along"]

Rows = Float[Array, "*batch d"]
Number = Float[Array, "*batch 1"]


def descend_along(x: Rows, grad: Rows, m: Rows, b1: Array | float, k: Array) -> tuple[Number, Move]:
    """The geodesic of u and its velocity. Lengths and time coordinates come from the space parts, as in `metric`.

    e is 1, or the power of two that shortens a point so far out that squares of it could overflow; products of two long rows have a
    factor e, and squares of their lengths e².
    """
    time = (jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1) == 0) & jnp.ones_like(x, bool)  # split over devices as x is
    e = shrinking(x[..., :1], k)
    xs = jnp.where(time, 0, x * e)
    xg, terms, p2, pg, pm = inner_products(x, grad, jnp.abs(x), jnp.abs(grad), xs, xs, xs, grad, xs, m)
    # r = J g + <x, J g> x/k
    normal = jnp.where(jnp.abs(xg) <= x.shape[-1] * jnp.finfo(x.dtype).eps * terms, 0, xg) / k
    # <u, u> from the part of us orthogonal to xs far from the origin, and from all of us near it. That of r is that of the gradient, and
    # smaller than a rounding error of r.
    far = p2 > k * e * e
    weight = jnp.where(far, 1 / jnp.where(far, p2, 1), 0)
    rest_r = jnp.where(time, 0, grad + jnp.where(far, -pg * weight, normal) * jnp.where(far, xs, x))
    # Where a rounding error of x0 is longer than the radius, so is that of a momentum across x: it is dropped, as it would grow when the
    # point moves inwards.
    along_m, eps = pm * weight * xs, jnp.finfo(x.dtype).eps
    rounding = (x[..., :1] * eps > jnp.sqrt(k)) & (jnp.abs(m - along_m) <= 8 * x.shape[-1] * eps * jnp.abs(m)) & ~time
    m = jnp.where(rounding, along_m, m)
    rest_m = b1 * jnp.where(time | rounding, 0, m - along_m) + (1 - b1) * rest_r
    momentum = b1 * m + (1 - b1) * (jnp.where(time, -grad, grad) + normal * x)
    across_r, across_m = inner_products(rest_r, rest_r, rest_m, rest_m)
    pr = pg + normal * (p2 / e)
    pm = b1 * pm + (1 - b1) * pr
    unit, metric = jnp.where(far, weight, 1) * e, jnp.where(far, k * p2, -1) / (k * e * e + p2)
    square = across_m + (pm * unit) * (pm * unit) * metric

    def move(c: Number) -> tuple[Rows, Rows, Rows]:
        # cosh and sinh of the distance |c m|/sqrt(k), and c m/distance; distance 0 is replaced by one that is negligible against 1
        tiny = jnp.finfo(x.dtype).tiny
        distance = jnp.sqrt(jnp.maximum(c * c * square / k, tiny))
        e_d = jnp.expm1(distance)
        cosh, sinh = 1 + e_d * e_d / (1 + e_d) / 2, (e_d + e_d / (1 + e_d)) / 2
        shift = sinh / distance * c
        along = shift * square / k
        ys = jnp.where(time, 0, (cosh * x + shift * momentum) * e)
        y2, ym = inner_products(ys, ys, ys, cosh * momentum + along * x)
        t = jnp.sqrt(k * e * e + y2)
        change = jnp.where(time, t / e, cosh * x + shift * momentum) - x
        y = x + change
        # cosh m + along x, with x as (y - sinh c m)/cosh
        return y, change, jnp.where(time, ym / t, momentum / cosh + along / cosh * y)

    return across_r + (pr * unit) * (pr * unit) * metric, move
