"""Distances between all pairs of two sets of points, without an array over pairs and coordinates."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import comb

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import Lorentz, PoincareBall, trig
from port_jax.manifolds.base import Manifold
from port_jax.manifolds.gyrovector import conformal

Points = Float[Array, "n d"]
Others = Float[Array, "m d"]
Matrix = Float[Array, "n m"]

BLOCK = 128
"""Points of x at a time."""
UNROLLED = 32
"""Up to so many coordinates, one sweep over the pairs of a block takes them all, with no array over pairs and coordinates."""


def pairwise_dist(manifold: Manifold, x: Points, y: Others | None = None) -> Matrix:
    """d(x_i, y_j) for all i and j (y = x without y), with derivatives: 0 where points coincide.

    On the ball d = 2 arsinh(sqrt(c w²/((1 - c|x|²)(1 - c|y|²))))/sqrt(c) with w² = sum_k (x_ik - y_jk)², on the hyperboloid
    d = 2 sqrt(k) arsinh(sqrt(w²/(4k))) with Minkowski's w². The squares of differences are added up pair by pair: the Gram form
    |x|² + |y|² - 2<x, y> is one matrix product, but of a short w² it leaves only rounding. Other manifolds go through
    `manifold.dist`. All work `BLOCK` points of x at a time, and compute anew for derivatives instead of keeping anything: beside
    the matrix itself and its cotangent there is memory of a block.

    Errors: ValueError for points that are not matrices of one width, or that the manifold refuses.
    """
    x = jnp.asarray(x)
    y = x if y is None else jnp.asarray(y)
    for name, points in (("x", x), ("y", y)):
        if points.ndim != 2 or points.shape[1] != x.shape[1]:
            raise ValueError(f"{name} has shape {points.shape}; give rows of points, [n, d] and [m, d] (x has {x.shape})")
    if not len(x):
        return jnp.zeros((0, len(y)), jnp.result_type(x, y))
    dtype = jnp.result_type(x, y)
    x, y = x.astype(dtype), y.astype(dtype)
    # The last block is filled up with its last point.
    blocks = -(-len(x) // BLOCK) if len(x) > BLOCK else 1
    size = -(-len(x) // blocks)
    filled = jnp.pad(x, ((0, blocks * size - len(x)), (0, 0)), mode="edge").reshape(blocks, size, x.shape[1])
    distances = jax.lax.map(jax.checkpoint(jax.vmap(_row(manifold, y))), filled)
    return distances.reshape(blocks * size, len(y))[: len(x)]


def _row(manifold: Manifold, y: Others) -> Callable[[Float[Array, " d"]], Float[Array, " m"]]:
    """The distances of one point to all of y."""
    if isinstance(manifold, PoincareBall):
        k = jnp.asarray(manifold.k, y.dtype)
        b = conformal(y, k)[:, 0]
        return lambda x: _arc(_squares(x, y, 1), conformal(x, k)[0], b, k)
    if isinstance(manifold, Lorentz):
        k, two = jnp.asarray(manifold.k, y.dtype), jnp.full((), 2, y.dtype)
        return lambda x: _arc(jnp.maximum(_squares(x, y, -1), 0), two, two, -1 / k)
    return lambda x: manifold.dist(x, y)


def _squares(x: Float[Array, " d"], y: Others, first: int) -> Float[Array, " m"]:
    """The squares of x - y_j over the coordinates, added up; that of the first one with the sign of `first`."""
    if len(x) > UNROLLED:
        w = x - y
        return jnp.sum(w[:, 1:] * w[:, 1:], -1) + first * w[:, 0] * w[:, 0]
    w = [x[k] - y[:, k] for k in range(len(x))]
    return reduce(jnp.add, [w[0] * w[0] * first, *(v * v for v in w[1:])])


def _arc(w2: Float[Array, " m"], a: Array, b: Array, k: Array) -> Float[Array, " m"]:
    """2 arsin_k(sqrt(w²/(a b))) for k <= 0."""
    s = w2 / (a * b)
    return 2 * trig.sqrt_or_zero(s) * _ratio(k * s)


@jax.custom_jvp
def _ratio(s: Float[Array, "..."]) -> Float[Array, "..."]:
    """R(s) = arsinh(sqrt(-s))/sqrt(-s) for s <= 0."""
    return trig.arsinh_ratio(s)


@_ratio.defjvp
def _ratio_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """R' = (1/sqrt(1 - s) - R)/(2s); near 0, where that cancels, by its series."""
    (s,) = primals
    ratio, near = _ratio(s), s > -SERIES
    far = jnp.where(near, -1, s)
    small = jnp.where(near, s, 0)
    series = reduce(lambda total, c: total * small + c, _SLOPE, jnp.zeros_like(s))
    return ratio, jnp.where(near, series, (1 / jnp.sqrt(1 - far) - ratio) / (2 * far)) * tangents[0]


SERIES = 0.1
_SLOPE = [n * comb(2 * n, n) / 4**n / (2 * n + 1) for n in range(17, 0, -1)]
"""Coefficients of R', highest power first: R(s) = sum of comb(2n, n)/(4^n (2n + 1)) s^n."""
