"""Distances of all pairs from two sets, of points or of points and hyperplanes, without an array over pairs and coordinates."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.checks import as_numbers
from port_jax.manifolds import Lorentz, Manifold
from port_jax.manifolds.stereographic import StereographicModel

__all__ = ["PAIRS", "WIDEST", "pairwise_dist", "pairwise_dist2plane"]

Points = Float[Array, "n d"]
Others = Float[Array, "m d"]
Matrix = Float[Array, "n m"]

PAIRS = 2**19
"""The number of pairs in a block, whose working memory stays in the cache."""
WIDEST = 2**14
"""The number of points of y in one loop over blocks: XLA on CPU sums longer rows in a way that makes derivatives three times slower."""


def pairwise_dist(manifold: Manifold, x: Points, y: Others | None = None) -> Matrix:
    """d(x_i, y_j) for all i and j (y = x without y), with derivatives: 0 where points coincide.

    On the ball d = 2 arsinh(sqrt(c w²/((1 - c|x|²)(1 - c|y|²))))/sqrt(c) with w² = sum_k (x_ik - y_jk)², on the hyperboloid
    d = 2 sqrt(k) arsinh(sqrt(w²/(4k))) with Minkowski's w². The squares of differences are summed pair by pair: the Gram form
    |x|² + |y|² - 2<x, y> is one matrix product, but leaves only rounding error of a small w². Other manifolds use
    `manifold.dist`. All work on `PAIRS` pairs at a time, and recompute for derivatives instead of storing anything: apart from
    the matrix itself and its cotangent, the memory is that of a block.

    Errors: ValueError for points that are not matrices of one width, or that the manifold refuses.
    """
    x = as_numbers("x", x)
    y = x if y is None else as_numbers("y", y)
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
    """The distances block by block of x; the last block is padded with its last point."""
    blocks = min(len(x), max(1, -(-len(x) * len(y) // PAIRS)))
    size = -(-len(x) // blocks)
    filled = jnp.pad(x, ((0, blocks * size - len(x)), (0, 0)), mode="edge").reshape(blocks, size, x.shape[1])
    distances = jax.lax.map(jax.checkpoint(jax.vmap(manifold.dist_to(y))), filled)
    return distances.reshape(blocks * size, len(y))[: len(x)]


def pairwise_dist2plane(manifold: StereographicModel | Lorentz, x: Points, p: Others, a: Others) -> Matrix:
    """The signed distance of x_i to the hyperplane through p_j with normal a_j, for all i and j: `dist2plane`, pair by pair.

    On `PoincareBall` there is no array over pairs and coordinates.
    """
    return manifold.dist2planes(x, p, a)
