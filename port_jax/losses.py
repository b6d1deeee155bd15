"""Losses of link prediction and node classification, with torch's numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ["binary_cross_entropy", "cross_entropy"]


def binary_cross_entropy(probability: Float[Array, "*batch"], target: float) -> Float[Array, ""]:
    """Mean of -(t log p + (1 - t) log(1 - p)), each logarithm at least -100, as in torch's `binary_cross_entropy`."""
    return -jnp.mean(target * _log(probability) + (1 - target) * _log(1 - probability))


def cross_entropy(logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, ""]:
    """Mean of -log softmax(logits)[label]."""
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1))


def _log(p: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """max(log p, -100), with derivative 0 at p = 0."""
    return jnp.where(p > 0, jnp.maximum(jnp.log(jnp.where(p > 0, p, 1)), -100), -100)
