"""The Fréchet mean of points of the ball by a fixed-point iteration, for many sets at once (Lou et al. 2020, algorithm 1).

`port_jax.frechet.frechet_mean` is for any manifold, one set and weights, and goes on until the gradient is at rounding error. This one
stops by a rule that looks at all sets together, as programs do that normalise by it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax import linalg
from port_jax.manifolds import trig
from port_jax.manifolds.row_products import dot
from port_jax.manifolds.signed import Signed, number
from port_jax.manifolds.stereographic.metric import conformal

__all__ = ["MOST", "fixed_point_mean"]

MOST = 1000
"""Iterations at most."""
TOLERANCE = {"float64": 1e-12}
"""By type, the change below which a mean has settled; SINGLE for all others."""
SINGLE = 1e-6


def fixed_point_mean(x: Float[Array, "*batch n d"], k: Signed) -> Float[Array, "*batch d"]:
    """argmin_m Σᵢ d(m, xᵢ)² over the axis before the last, for k < 0.

    With c = -k, tᵢ = c|xᵢ - m|²/((1 - c|xᵢ|²)(1 - c|m|²)) and αᵢ = 2 arcosh(1 + 2tᵢ)/(sqrt(tᵢ² + tᵢ) (1 - c|xᵢ|²)), from m = x₁ on:

        a = Σ αᵢ (1 + c|xᵢ|²),   b = Σ αᵢ xᵢ,   m ← 2b/(a + sqrt(a² - 4c|b|²))

    It ends after 1000 iterations, or once the changes of all sets are below 1e-6 (float64: 1e-12), or below that part of |m|.
    Derivatives of any order by x and k come from m = T(m, x, k): dm = (I - ∂T/∂m)⁻¹ dT. They do not depend on the iteration.
    """
    k = jnp.asarray(number(k), x.dtype)
    tolerance = TOLERANCE.get(x.dtype.name, SINGLE)
    frozen = jax.lax.stop_gradient((x, k))

    def residual(m: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
        return _iterated(m, x, k) - m

    def solve(_: object, start: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
        def unfinished(state: tuple) -> Array:
            _, settled, count = state
            return ~settled & (count < MOST)

        def advance(state: tuple) -> tuple:
            old, _, count = state
            new = _iterated(old, *frozen)
            moved, length = (trig.sqrt_or_zero(dot(v, v)) for v in (new - old, old))
            return new, jnp.all(moved < tolerance) | jnp.all(moved < tolerance * length), count + 1

        nothing = jnp.any(jnp.isnan(start))  # a flag that varies over a mesh's axes as the points do
        return jax.lax.while_loop(unfinished, advance, (start, nothing, jnp.asarray(0)))[0]

    return jax.lax.custom_root(residual, frozen[0][..., 0, :], solve, _solved)


def _iterated(m: Float[Array, "*batch d"], x: Float[Array, "*batch n d"], k: Float[Array, "..."]) -> Float[Array, "*batch d"]:
    m = m[..., None, :]
    near, w = conformal(x, k), x - m
    t = -k * dot(w, w) / (near * conformal(m, k))
    alpha = 4 * trig.arsinh_ratio(-t) / (jnp.sqrt(1 + t) * near)  # arcosh(1 + 2t) = 2 arsinh(sqrt t)
    b = jnp.sum(alpha * x, -2)
    a = jnp.sum(alpha * (2 - near), -2)
    return 2 * b / (a + trig.sqrt_or_zero(a * a + 4 * k * dot(b, b)))


def _solved(linear, y: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """The u with linear(u) = y. Each set has a matrix of its own, of which a basis vector in all sets at once gives a column."""
    basis = jnp.eye(y.shape[-1], dtype=y.dtype)
    rows = jax.vmap(lambda e: linear(jnp.zeros_like(y) + e.reshape(*[1] * (y.ndim - 1), -1)))(basis)
    return linalg.solve(jnp.moveaxis(rows, 0, -1), y[..., None])[..., 0]
