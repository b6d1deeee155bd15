"""The causal text transformer of CLIP, MERU and HyCoCLIP."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from port_jax.layers.standard import MultiheadAttention

__all__ = ["TextTransformer"]


class TextTransformer(nn.Module):
    """Features of token ids, each of which sees those before it and itself: pre-norm blocks with an exact GELU (arXiv 2103.00020).

    Parameters `token_embed/embedding` [vocab_size, width], `posit_embed` [context_length, width],
    `resblocks_i/{attn, ln_1, c_fc, c_proj, ln_2}` and `ln_final`. dtype: as that of `VisionTransformer`. Of a text that is shorter than the
    context nothing depends on what follows it. An id that the vocabulary does not have makes NaN.

    Errors: ValueError for more tokens than context_length.
    """

    vocab_size: int
    context_length: int
    width: int
    layers: int
    heads: int
    dtype: Any = None

    @nn.compact
    def __call__(self, tokens: Int[Array, "*batch l"]) -> Float[Array, "*batch l width"]:
        length = tokens.shape[-1]
        if length > self.context_length:
            raise ValueError(
                f"tokens: found {length} in a row, and the context has {self.context_length}; cut them by "
                "port_jax.models.meru.padded_tokens, which keeps the last one"
            )
        places = self.param("posit_embed", nn.initializers.normal(0.01), (self.context_length, self.width))
        x = nn.Embed(self.vocab_size, self.width, embedding_init=nn.initializers.normal(0.02), name="token_embed")(tokens)
        x = x + places[:length].reshape(*[1] * (x.ndim - 2), length, self.width)
        hidden = jnp.triu(jnp.ones((length, length), bool), 1)
        for n in range(self.layers):
            x = _Block(self.width, self.heads, (2 * self.width * self.layers) ** -0.5, self.dtype, name=f"resblocks_{n}")(x, hidden)
        return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="ln_final")(x)


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). within: the deviation of what ends each branch at the start."""

    width: int
    heads: int
    within: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "*batch l width"], hidden: Array) -> Float[Array, "*batch l width"]:
        seen = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="ln_1")(x)
        x = x + MultiheadAttention(self.width, self.heads, self.dtype, name="attn")(seen, seen, seen, hidden)[0]
        seen = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="ln_2")(x)
        return x + self._dense("c_proj", self.width, self.within)(
            nn.gelu(self._dense("c_fc", 4 * self.width, (2 * self.width) ** -0.5)(seen), approximate=False)
        )

    def _dense(self, name: str, features: int, deviation: float) -> nn.Dense:
        return nn.Dense(features, dtype=self.dtype, kernel_init=nn.initializers.normal(deviation), name=name)
