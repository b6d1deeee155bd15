"""One point against many: sums over coordinates with no array over pairs and coordinates."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.row_products import dot

__all__ = ["UNROLLED", "arc", "differences", "squares_to"]

Point = Float[Array, " d"]
Points = Float[Array, "n d"]
Others = Float[Array, "m d"]
Row = Float[Array, " m"]
Matrix = Float[Array, "n m"]

UNROLLED = 32
"""Up to this many coordinates, one sweep over the pairs of a block handles them all, with no array over pairs and coordinates."""


def squares_to(y: Others, first: int) -> Callable[[Point], Row]:
    """A function from a point x to the sums of squares of x - y_j, where the square of the first coordinate has the sign of `first`."""
    if y.shape[1] > UNROLLED:

        def wide(x: Point) -> Row:
            w = x - y
            return jnp.sum(w[:, 1:] * w[:, 1:], -1) + first * w[:, 0] * w[:, 0]

        return wide
    # one array for each coordinate: on rows, a sweep would read a cache line for each number
    columns = [y[:, k] for k in range(y.shape[1])]

    def narrow(x: Point) -> Row:
        w = [x[k] - column for k, column in enumerate(columns)]
        return reduce(jnp.add, [w[0] * w[0] * first, *(v * v for v in w[1:])])

    return narrow


def arc(w2: Row, a: Array, b: Array, k: Array) -> Row:
    """2 arsin_k(sqrt(w²/(a b))) for k <= 0."""
    s = w2 / (a * b)
    return 2 * trig.sqrt_or_zero(s) * trig.arsinh_ratio(k * s)


@jax.custom_jvp
def differences(x: Points, p: Others, a: Others) -> tuple[Matrix, Matrix]:
    """|x_i - p_j|² and <x_i - p_j, a_j>.

    In derivatives the differences become matrix products, whose rounding error is eps|x_i| where x_i and p_j nearly agree. That is no
    more than the rounding error of the other part of the derivative of a distance, along a_j.
    """
    if x.shape[1] > UNROLLED:
        w = x[:, None] - p[None]
        return jnp.sum(w * w, -1), jnp.sum(w * a[None], -1)
    w = [x[:, k : k + 1] - p[None, :, k] for k in range(x.shape[1])]
    return reduce(jnp.add, [v * v for v in w]), reduce(jnp.add, [v * a[None, :, k] for k, v in enumerate(w)])


@differences.defjvp
def _(primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]) -> tuple[tuple[Matrix, Matrix], tuple[Matrix, Matrix]]:
    (x, p, a), (dx, dp, da) = primals, tangents

    def by(u: Array, v: Array) -> Matrix:
        return jnp.matmul(u, v.T, precision=jax.lax.Precision.HIGHEST)

    squares = 2 * (dot(x, dx) - by(dx, p) - by(x, dp) + dot(p, dp).T)
    return differences(x, p, a), (squares, by(dx, a) + by(x, da) - (dot(dp, a) + dot(p, da)).T)
