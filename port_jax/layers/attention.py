"""Attention over sequences of points of the hyperboloid."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from port_jax.checks import as_numbers
from port_jax.layers.linear import LorentzFullyConnected
from port_jax.layers.models_of_space import require_time
from port_jax.manifolds import Manifold
from port_jax.manifolds.hyperboloid.concatenation import direct_concatenate
from port_jax.manifolds.hyperboloid.gyrogroup import centroid

__all__ = ["LorentzAttention", "closeness"]


def closeness(
    query: Float[Array, "*batch n h c+1"], key: Float[Array, "*batch m h c+1"], dtype: Any = None
) -> Float[Array, "*batch h n m"]:
    """-|q_i - k_j|²_L = 2k + 2<q_i, k_j> of points of each head, less a number that the keys of a query share, which no softmax sees.

    That is 2<q - m, p - m> - |p - m|²_L for a key p and the mean m of the keys. With it no long vectors cancel, and there is no array of
    pairs and coordinates. dtype: the type that the inner products are taken in, such as bfloat16.
    """
    middle = jax.lax.stop_gradient(jnp.mean(key, -3, keepdims=True))
    query, key = query - middle, key - middle
    past = jnp.concatenate([-key[..., :1], key[..., 1:]], -1)
    lengths = jnp.moveaxis(jnp.sum(past * key, -1), -1, -2)[..., None, :]
    given = (query, past) if dtype is None else (query.astype(dtype), past.astype(dtype))
    return 2 * jnp.einsum("...nhc,...mhc->...hnm", *given, preferred_element_type=query.dtype) - lengths


class LorentzAttention(nn.Module):
    """Heads of α = softmax_j(-|q_i - k_j|²_L/scale), each the centroid of its values, joined by direct concatenation and mapped linearly.

    |q - p|²_L = -2k - 2<q, p> is the squared Lorentzian distance of a query and a key (Chen et al. 2022, section 3.3). Queries, keys,
    values and output are maps by `LorentzFullyConnected`, for any k; the authors use `LorentzLinear` at k = 1, and add to the logits a bias
    that a softmax does not see. Parameters: `query`, `key`, `value`, `out`, each `linear/{kernel, bias}`, and `scale` [], which starts at
    sqrt(features).

    x: [*batch, n, d + 1]; `context` [*batch, m, d' + 1] has the keys and values, by default x. `mask` [..., n, m], broadcast over heads
    and batch, is False where nothing is attended to; a row that is False everywhere has equal weights. Result [*batch, n, features + 1].
    """

    features: int
    heads: int = 1

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch n d+1"], context: Float[Array, "*batch m e+1"] | None = None,
                 mask: Bool[Array, "... n m"] | None = None) -> Float[Array, "*batch n out+1"]:  # fmt: skip
        require_time(self, manifold, "points mapped by ball_to_hyperboloid")
        if self.features % self.heads:
            raise ValueError(f"LorentzAttention: features is {self.features}, which {self.heads} heads do not divide")
        x = as_numbers("x", x)
        context = x if context is None else as_numbers("context", context)
        query, key, value = (self._heads(manifold, name, a) for name, a in (("query", x), ("key", context), ("value", context)))
        k = jnp.asarray(manifold.k, x.dtype)  # pyright: ignore[reportAttributeAccessIssue]
        scale = self.param("scale", nn.initializers.constant(math.sqrt(self.features)), ())
        logits = closeness(query, key) / scale
        if mask is not None:
            shown = jnp.broadcast_to(jnp.expand_dims(mask, -3), logits.shape)
            logits = jnp.where(shown, logits, jnp.finfo(logits.dtype).min)
        alpha = jax.nn.softmax(logits, -1)
        heads = centroid(jnp.einsum("...hnm,...mhc->...nhc", alpha, value), k)
        return LorentzFullyConnected(self.features, name="out")(manifold, direct_concatenate(heads, k))

    def _heads(self, manifold: Manifold, name: str, x: Float[Array, "*batch n d+1"]) -> Float[Array, "*batch n h c+1"]:
        """Points of each head: a linear map of x whose space coordinates are divided among the heads."""
        joined = LorentzFullyConnected(self.features, name=name)(manifold, x)
        space = joined[..., 1:].reshape(*x.shape[:-1], self.heads, self.features // self.heads)
        return manifold.projx(manifold.from_coordinates0(space))
