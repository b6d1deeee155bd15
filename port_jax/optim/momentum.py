"""A step of points along their gradient or their momentum, and the momentum transported to where they arrive.

On any manifold that is `egrad2rgrad`, a sum, and `retr_transp`. Where all of it stays in the span of point and momentum, as on the ball
and the hyperboloid, the step needs inner products of rows and linear combinations of rows only. There it is written as two or three
sweeps over the table that read and reduce, and three that overwrite it in turn: momentum, point, momentum. In that order, with
donated buffers, nothing of the table's size is allocated or copied. Equal to the general form but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import Lorentz, PoincareBall, trig
from port_jax.manifolds.base import Manifold
from port_jax.manifolds.gyrovector import boundary_margin, conformal_of_sums, on_grid
from port_jax.manifolds.row_products import inner_products

Move = Callable[[Array], tuple[Array, Array, Array]]
Rows = Float[Array, "*batch d"]
Number = Float[Array, "*batch 1"]


def along_momentum(manifold: Manifold, x: Array, grad: Array, m: Array, b1: Array | float) -> tuple[Array, Move]:
    """One step in two halves: <r, r>_x for r = egrad2rgrad(x, grad), and a function of the step size c that moves.

    With m' = b1 m + (1 - b1) r, that function gives retr_transp(x, c m', m'), the new point and the new momentum, and between them
    the change of the point. c has the shape of the manifold's `component_inner`.
    """
    if type(manifold) is PoincareBall:
        return _on_ball(x, grad, m, b1, jnp.asarray(manifold.k, x.dtype))
    if type(manifold) is Lorentz:
        return _on_hyperboloid(x, grad, m, b1, jnp.asarray(manifold.k, x.dtype))
    r = manifold.egrad2rgrad(x, grad)
    momentum = b1 * m + (1 - b1) * r

    def move(c: Array) -> tuple[Array, Array, Array]:
        y, transported = manifold.retr_transp(x, c * momentum, momentum)
        return y, y - x, transported

    return manifold.component_inner(x, r), move


def along_gradient(manifold: Manifold, x: Array, grad: Array, rate: Array | float) -> Array:
    """retr(x, -rate egrad2rgrad(x, grad)); on the ball in two sweeps, one that reads and reduces and one that writes."""
    if type(manifold) is not PoincareBall:
        return manifold.retr(x, -rate * manifold.egrad2rgrad(x, grad))
    k = jnp.asarray(manifold.k, x.dtype)
    h = on_grid(x, k)
    hh, rest, xg, gg = inner_products(h, h, x - h, x + h, x, grad, grad, grad)
    half = conformal_of_sums(hh, rest, k) / 2
    c = -rate * half * half
    # |x + c grad|², whose terms cancel only where it is far from the boundary
    square = hh + rest + c * (2 * xg + c * gg)
    limit = (1 - boundary_margin(x.dtype)) / jnp.sqrt(-k)
    outside = square > limit * limit
    return (x + c * grad) * (jnp.where(outside, limit, 1) / jnp.sqrt(jnp.where(outside, square, 1)))


def _on_ball(x: Rows, grad: Rows, m: Rows, b1: Array | float, k: Array) -> tuple[Number, Move]:
    """x + u pulled back into the ball, and lambda_x/lambda_y gyr[y, -x]: `gyrovector.gyration` with z = m parallel to u."""
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


def _on_hyperboloid(x: Rows, grad: Rows, m: Rows, b1: Array | float, k: Array) -> tuple[Number, Move]:
    """The geodesic of u and its velocity. Lengths and time coordinates come from the space parts, as in `lorentz_math`."""
    time = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1) == 0
    xs = jnp.where(time, 0, x)
    xg, terms, p2, pg, pm = inner_products(x, grad, jnp.abs(x), jnp.abs(grad), xs, x, xs, grad, xs, m)
    # r = J g + <x, J g> x/k
    normal = jnp.where(jnp.abs(xg) <= x.shape[-1] * jnp.finfo(x.dtype).eps * terms, 0, xg) / k
    r = jnp.where(time, -grad, grad) + normal * x
    momentum = b1 * m + (1 - b1) * r
    pr = pg + normal * p2
    pm = b1 * pm + (1 - b1) * pr
    # <u, u> from the part of us across xs, far from the origin, and from all of us near it
    far = p2 > k
    weight = jnp.where(far, 1 / jnp.where(far, p2, 1), 0)
    rest_r, rest_m = jnp.where(time, 0, r - pr * weight * x), jnp.where(time, 0, momentum - pm * weight * x)
    across_r, across_m = inner_products(rest_r, rest_r, rest_m, rest_m)
    unit, metric = jnp.where(far, weight, 1), jnp.where(far, k * p2, -1) / (k + p2)
    square = across_m + (pm * unit) * (pm * unit) * metric

    def move(c: Number) -> tuple[Rows, Rows, Rows]:
        # cosh and sinh of the distance |c m|/sqrt(k), and c m/distance; at distance 0 of one that vanishes beside 1
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
