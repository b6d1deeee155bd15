"""Initializers of points on a manifold: draw in the tangent space at the origin, then apply exp_0; and the uniform law of torch's layers.

The scales of Xavier and He are scales of tangent vectors; ambient coordinates drawn at random would not lie on the manifold. On
the hyperboloid the space-like part is drawn and the time-like part is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.manifolds import Manifold

__all__ = ["he_normal", "normal", "on_manifold", "symmetric", "xavier_uniform"]

Initializer = Callable[..., Float[Array, "..."]]


def on_manifold(manifold: Manifold, tangent: Initializer) -> Initializer:
    """An initializer of points: `tangent`'s draw [..., d], mapped by exp_0 to `manifold` (d + 1 coordinates on the hyperboloid)."""

    def draw(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, "..."]:
        return manifold.from_tangent0(tangent(key, (*shape[:-1], shape[-1] - manifold.ambient), dtype))

    return draw


def normal(manifold: Manifold, stddev: float = 1e-2) -> Initializer:
    """exp_0 of N(0, stddev^2): embeddings that start close to the origin."""
    return on_manifold(manifold, nn.initializers.normal(stddev))


def xavier_uniform(manifold: Manifold, gain: float = 1.0) -> Initializer:
    """exp_0 of U(-b, b), b = gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16)."""
    return on_manifold(manifold, nn.initializers.variance_scaling(gain**2, "fan_avg", "uniform"))


def symmetric(bound: float) -> Initializer:
    """U(-bound, bound) of flat parameters, as torch's `uniform_(x, -bound, bound)` draws them; `nn.initializers.uniform` begins at 0."""

    def draw(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, "..."]:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


def he_normal(manifold: Manifold) -> Initializer:
    """exp_0 of N(0, 2 / fan_in), truncated at two standard deviations (He et al. 2015, eq. 10)."""
    return on_manifold(manifold, nn.initializers.he_normal())
