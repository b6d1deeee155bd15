"""Distances between all pairs of two sets, of points or of points and hyperplanes, without an array over pairs and coordinates."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import Lorentz, PoincareBall, trig
from port_jax.manifolds.base import Manifold
from port_jax.manifolds.gyrovector import conformal, dot
from port_jax.manifolds.stereographic_math import plane_distance

Points = Float[Array, "n d"]
Others = Float[Array, "m d"]
Matrix = Float[Array, "n m"]

PAIRS = 2**19
"""Pairs at a time: what they need stays in the cache."""
WIDEST = 2**14
"""Points of y in one loop over blocks: XLA on CPU sums longer rows in another way, which makes derivatives three times slower."""
UNROLLED = 32
"""Up to so many coordinates, one sweep over the pairs of a block takes them all, with no array over pairs and coordinates."""


def pairwise_dist(manifold: Manifold, x: Points, y: Others | None = None) -> Matrix:
    """d(x_i, y_j) for all i and j (y = x without y), with derivatives: 0 where points coincide.

    On the ball d = 2 arsinh(sqrt(c w²/((1 - c|x|²)(1 - c|y|²))))/sqrt(c) with w² = sum_k (x_ik - y_jk)², on the hyperboloid
    d = 2 sqrt(k) arsinh(sqrt(w²/(4k))) with Minkowski's w². The squares of differences are added up pair by pair: the Gram form
    |x|² + |y|² - 2<x, y> is one matrix product, but of a short w² it leaves only rounding. Other manifolds go through
    `manifold.dist`. All work `PAIRS` pairs at a time, and compute anew for derivatives instead of keeping anything: beside
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
    parts = jnp.array_split(y, -(-len(y) // WIDEST)) if len(y) > WIDEST else [y]
    return jnp.concatenate([_strip(manifold, x, part) for part in parts], 1) if len(parts) > 1 else _strip(manifold, x, y)


def _strip(manifold: Manifold, x: Points, y: Others) -> Matrix:
    """Block after block of x; the last one is filled up with its last point."""
    blocks = min(len(x), max(1, -(-len(x) * len(y) // PAIRS)))
    size = -(-len(x) // blocks)
    filled = jnp.pad(x, ((0, blocks * size - len(x)), (0, 0)), mode="edge").reshape(blocks, size, x.shape[1])
    distances = jax.lax.map(jax.checkpoint(jax.vmap(_row(manifold, y))), filled)
    return distances.reshape(blocks * size, len(y))[: len(x)]


def _row(manifold: Manifold, y: Others) -> Callable[[Float[Array, " d"]], Float[Array, " m"]]:
    """The distances of one point to all of y."""
    if isinstance(manifold, PoincareBall):
        k, squares = jnp.asarray(manifold.k, y.dtype), _squares(y, 1)
        b = conformal(y, k)[:, 0]
        return lambda x: _arc(squares(x), conformal(x, k)[0], b, k)
    if isinstance(manifold, Lorentz):
        k, two, squares = jnp.asarray(manifold.k, y.dtype), jnp.full((), 2, y.dtype), _squares(y, -1)
        return lambda x: _arc(jnp.maximum(squares(x), 0), two, two, -1 / k)
    return lambda x: manifold.dist(x, y)


def _squares(y: Others, first: int) -> Callable[[Float[Array, " d"]], Float[Array, " m"]]:
    """For a point x the squares of x - y_j over the coordinates, added up; that of the first one with the sign of `first`."""
    if y.shape[1] > UNROLLED:

        def wide(x: Float[Array, " d"]) -> Float[Array, " m"]:
            w = x - y
            return jnp.sum(w[:, 1:] * w[:, 1:], -1) + first * w[:, 0] * w[:, 0]

        return wide
    # each coordinate in an array of its own: from rows, a sweep would read a cache line for each number
    columns = [y[:, k] for k in range(y.shape[1])]

    def narrow(x: Float[Array, " d"]) -> Float[Array, " m"]:
        w = [x[k] - column for k, column in enumerate(columns)]
        return reduce(jnp.add, [w[0] * w[0] * first, *(v * v for v in w[1:])])

    return narrow


def _arc(w2: Float[Array, " m"], a: Array, b: Array, k: Array) -> Float[Array, " m"]:
    """2 arsin_k(sqrt(w²/(a b))) for k <= 0."""
    s = w2 / (a * b)
    return 2 * trig.sqrt_or_zero(s) * trig.arsinh_ratio(k * s)


def pairwise_dist2plane(ball: PoincareBall, x: Points, p: Others, a: Others) -> Matrix:
    """The signed distance of x_i to the hyperplane through p_j with normal a_j, for all i and j: `ball.dist2plane`, pair by pair.

    In derivatives the differences x_i - p_j come apart into matrix products, which round by eps|x_i| where x_i and p_j nearly agree:
    no more than the other part of the derivative, along a_j, rounds there.
    """
    k = jnp.asarray(ball.k, jnp.result_type(x, p, a))
    w2, along_a = _differences(x, p, a)
    along = k * w2 * dot(p, a).T + conformal(p, k).T * along_a
    return plane_distance(along, conformal(x, k), conformal(p, k).T, trig.sqrt_or_zero(dot(a, a)).T, k, spherical=False)


@jax.custom_jvp
def _differences(x: Points, p: Others, a: Others) -> tuple[Matrix, Matrix]:
    """|x_i - p_j|² and <x_i - p_j, a_j>."""
    if x.shape[1] > UNROLLED:
        w = x[:, None] - p
        return jnp.sum(w * w, -1), jnp.sum(w * a, -1)
    w = [x[:, k : k + 1] - p[:, k] for k in range(x.shape[1])]
    return reduce(jnp.add, [v * v for v in w]), reduce(jnp.add, [v * a[:, k] for k, v in enumerate(w)])


@_differences.defjvp
def _(primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]) -> tuple[tuple[Matrix, Matrix], tuple[Matrix, Matrix]]:
    (x, p, a), (dx, dp, da) = primals, tangents

    def by(u: Array, v: Array) -> Matrix:
        return jnp.matmul(u, v.T, precision=jax.lax.Precision.HIGHEST)

    squares = 2 * (dot(x, dx) - by(dx, p) - by(x, dp) + dot(p, dp).T)
    return _differences(x, p, a), (squares, by(dx, a) + by(x, da) - (dot(dp, a) + dot(p, da)).T)
