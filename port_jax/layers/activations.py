"""Activations under the names that configurations use, with torch's derivatives at kinks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["ACTIVATIONS", "leaky_relu"]


def leaky_relu(x: Float[Array, "..."], negative_slope: float = 0.01) -> Float[Array, "..."]:
    """x where x > 0, else negative_slope x. The derivative at 0 is the slope, as in torch; `jax.nn.leaky_relu` has 1 there."""
    return jnp.where(x > 0, x, negative_slope * x)


ACTIVATIONS: Mapping[str, Callable[[Float[Array, "..."]], Float[Array, "..."]]] = {
    "none": lambda x: x,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "tanh": jnp.tanh,
    "leaky_relu": leaky_relu,
}
