"""A step of points of the ball along their gradient or their momentum, and the momentum transported to where they arrive.

All of it stays in the span of point and momentum, so that the step needs only inner products and linear combinations of rows. It is
written as two sweeps over the table that read and reduce, and three that overwrite it in turn: momentum, point, momentum. In that
order, with donated buffers, nothing of the table's size is allocated or copied. Equal to `Manifold.descend` and
`Manifold.descend_along` up to rounding.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.base import Move
from port_jax.manifolds.row_products import inner_products, reduced
from port_jax.manifolds.stereographic.metric import boundary_margin, conformal_of_sums, on_grid

__all__ = ["descend", "descend_along"]

Rows = Float[Array, "*batch d"]
Number = Float[Array, "*batch 1"]


def descend(x: Rows, grad: Rows, rate: Array | float, k: Array) -> Rows:
    """x - rate egrad2rgrad(x, grad), pulled back into the ball of curvature k < 0."""
    h = on_grid(x, k)
    small = reduced(grad)
    hh, rest, xg, gg, small2 = inner_products(h, h, x - h, x + h, x, grad, grad, grad, small, small)
    half = conformal_of_sums(hh, rest, k) / 2
    c = -rate * half * half
    # |x + c grad|², whose terms cancel only far from the boundary
    square = hh + rest + c * (2 * xg + c * gg)
    limit = (1 - boundary_margin(x.dtype)) / jnp.sqrt(-k)
    outside = square > limit * limit
    near = (x + c * grad) * (jnp.where(outside, limit, 1) / jnp.sqrt(jnp.where(outside, square, 1)))
    # a gradient whose square overflows leads to the boundary, against which x is nothing
    long = gg == jnp.inf
    return jnp.where(long, reduced(grad, long) * (-limit * jnp.sign(rate) / jnp.sqrt(jnp.where(long, small2, 1))), near)


def descend_along(x: Rows, grad: Rows, m: Rows, b1: Array | float, k: Array) -> tuple[Number, Move]:
    """x + u pulled back into the ball, and lambda_x/lambda_y gyr[y, -x]: `gyrogroup.gyration` with z = m parallel to u."""
    h = on_grid(x, k)
    hh, rest, xg, xm, mm, mg, gg = inner_products(h, h, x - h, x + h, x, grad, x, m, m, m, m, grad, grad, grad)
    xx, a = hh + rest, conformal_of_sums(hh, rest, k)
    half = a / 2
    q = (1 - b1) * half * half
    mm = b1 * b1 * mm + 2 * b1 * q * mg + q * q * gg
    xm = b1 * xm + q * xg

    def move(c: Number) -> tuple[Rows, Rows, Rows]:
        # y = s (x + u) with u = c m
        xu, uu = c * xm, c * c * mm
        rise = 2 * xu + uu
        limit = (1 - boundary_margin(x.dtype)) / jnp.sqrt(-k)
        square = jnp.maximum(xx + rise, 0)
        outside = square > limit * limit
        length = jnp.sqrt(jnp.where(outside, square, 1))
        # s - 1, which for a point near the limit is small
        less = jnp.where(outside, (limit * limit - xx - rise) / (length * (limit + length)), 0)
        s = 1 + less
        b = trig.positive_part(1 + k * s * s * square)
        # w = y - x = less x + s u
        ww = less * less * xx + 2 * s * less * xu + s * s * uu
        wm = less * xm + s * c * mm
        # gyr[y, -x] m = m + 2 (first y + second w)/(a b - k |w|²)
        scale = 2 * k / trig.denominator(a * b - k * ww)
        first, second = -scale * (k * ww * xm + a * wm), scale * (wm + b * xm)
        momentum = b1 * m + q * grad
        change = less * x + s * c * momentum
        y = x + change
        # w as u + less/s y
        return y, change, b / a * ((1 + second * c) * momentum + (first + second * less / s) * y)

    return half * half * gg, move
