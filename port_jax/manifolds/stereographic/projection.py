"""The stereographic projection between the sphere or hyperboloid in R^(d+1) and the model."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.signed import Signed, number
from port_jax.manifolds.stereographic.metric import lambda_x

__all__ = ["inv_sproj", "sproj"]

Vector = Float[Array, "*batch d"]
Number = Float[Array, "..."]


def _inverse_radius(k: Number) -> Number:
    """sqrt|k|; for k = 0, where there is no sphere to project from, sqrt(1e-15) as in geoopt, so that inv_sproj stays the inverse.

    For every other k nothing is added: see the rows `sproj` and `inv_sproj` of `ball` and `sphere` in accuracy/table.csv.
    """
    return jnp.sqrt(jnp.where(k == 0, 1e-15, jnp.abs(k)))


def sproj(x: Float[Array, "*batch d+1"], k: Signed) -> Vector:
    """Stereographic projection of the sphere or hyperboloid in R^(d+1), whose last coordinate is the axis, to the model."""
    return trig.over(x[..., :-1], 1 + _inverse_radius(number(k)) * x[..., -1:])


def inv_sproj(x: Vector, k: Signed) -> Float[Array, "*batch d+1"]:
    """The point of the sphere or hyperboloid that `sproj` takes to x."""
    factor = lambda_x(x, k)
    return jnp.concatenate([factor * x, (factor - 1) / _inverse_radius(number(k))], axis=-1)
