"""A step of points of the hyperboloid along their momentum, and the momentum transported to where they arrive.

As on the ball (`stereographic.fused_step`) all of it stays in the span of point and momentum: inner products of rows, three sweeps that
read and reduce, and three that overwrite. Equal to `Manifold.descend_along` up to rounding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds.base import Move
from port_jax.manifolds.row_products import inner_products

__all__ = ["descend_along"]

Rows = Float[Array, "*batch d"]
Number = Float[Array, "*batch 1"]


def descend_along(x: Rows, grad: Rows, m: Rows, b1: Array | float, k: Array) -> tuple[Number, Move]:
    """The geodesic of u and its velocity. Lengths and time coordinates come from the space parts, as in `metric`."""
    time = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1) == 0
    xs = jnp.where(time, 0, x)
    xg, terms, p2, pg, pm = inner_products(x, grad, jnp.abs(x), jnp.abs(grad), xs, x, xs, grad, xs, m)
    # r = J g + <x, J g> x/k
    normal = jnp.where(jnp.abs(xg) <= x.shape[-1] * jnp.finfo(x.dtype).eps * terms, 0, xg) / k
    r = jnp.where(time, -grad, grad) + normal * x
    momentum = b1 * m + (1 - b1) * r
    pr = pg + normal * p2
    pm = b1 * pm + (1 - b1) * pr
    # <u, u> from the part of us orthogonal to xs far from the origin, and from all of us near it
    far = p2 > k
    weight = jnp.where(far, 1 / jnp.where(far, p2, 1), 0)
    rest_r, rest_m = jnp.where(time, 0, r - pr * weight * x), jnp.where(time, 0, momentum - pm * weight * x)
    across_r, across_m = inner_products(rest_r, rest_r, rest_m, rest_m)
    unit, metric = jnp.where(far, weight, 1), jnp.where(far, k * p2, -1) / (k + p2)
    square = across_m + (pm * unit) * (pm * unit) * metric

    def move(c: Number) -> tuple[Rows, Rows, Rows]:
        # cosh and sinh of the distance |c m|/sqrt(k), and c m/distance; distance 0 is replaced by one that is negligible against 1
        tiny = jnp.finfo(x.dtype).tiny
        distance = jnp.sqrt(jnp.maximum(c * c * square / k, tiny))
        e = jnp.expm1(distance)
        cosh, sinh = 1 + e * e / (1 + e) / 2, (e + e / (1 + e)) / 2
        shift = sinh / distance * c
        along = shift * square / k
        ys = jnp.where(time, 0, cosh * x + shift * momentum)
        y2, ym = inner_products(ys, ys, ys, cosh * momentum + along * x)
        t = jnp.sqrt(k + y2)
        change = jnp.where(time, t, cosh * x + shift * momentum) - x
        y = x + change
        # cosh m + along x, with x as (y - sinh c m)/cosh
        return y, change, jnp.where(time, ym / t, momentum / cosh + along / cosh * y)

    return across_r + (pr * unit) * (pr * unit) * metric, move
