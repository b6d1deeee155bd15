"""HELM-D (He et al., "HELM: Hyperbolic large language models via mixture-of-curvature experts", arXiv 2505.24722): a decoder of text whose
tokens are points of a hyperboloid in every layer.

The numbers are those of Graph-and-Geometric-Learning/HELM at commit 83ac8ff, on HyperCore e87a4f8, whose c is the k of `Lorentz`.
"""

from __future__ import annotations

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from port_jax.checks import as_indices, as_numbers
from port_jax.layers.embedding import PointEmbedding
from port_jax.layers.helm import LorentzRotaryAttention, LorentzSwiGLU, require_heads, rotations, widened
from port_jax.layers.linear import lifted
from port_jax.layers.pointwise import SpaceRMSNorm
from port_jax.layers.residual import MidpointResidual
from port_jax.manifolds import Euclidean, Lorentz, Manifold
from port_jax.types import ManifoldTree, Params

__all__ = ["HELM", "LEAST", "require_known", "sizes_of"]

Tokens = Int[Array, "*batch l"]
Points = Float[Array, "*batch l w"]
LEAST = 1e-4
"""The smallest k: below it the authors' bounds on squares of times change points that lie on their hyperboloid."""
PER_HEAD = 64
"""Coordinates of a head where an `arch` has no A."""


def sizes_of(arch: str) -> dict[str, int]:
    """`layers`, `width` and `heads` of the authors' `arch`, such as L6_W390_A6; without A there are width // 64 heads.

    Errors: ValueError for text without L and W.
    """
    found = {letter: int(number) for letter, number in re.findall(r"([LWA])(\d{1,9})", arch)}
    if not found.keys() >= {"L", "W"}:
        raise ValueError(f"arch is {arch!r}; give layers, width and heads, as in L6_W390_A6")
    return {"layers": found["L"], "width": found["W"], "heads": found.get("A", found["W"] // PER_HEAD)}


def require_known(tokens: Tokens, vocab_size: int) -> Bool[Array, "*batch l"]:
    """Which ids the vocabulary has. Raises ValueError for another one, except under `jit`, where ids are not looked at."""
    known = (tokens >= 0) & (tokens < vocab_size)
    if not isinstance(known, Tracer) and not bool(np.all(known)):
        raise ValueError(f"tokens contains {int(tokens[~known][0])}; the vocabulary has ids from 0 to {vocab_size - 1}")
    return known


class HELM(nn.Module):
    """Logits of the token that follows each token, from it and those before it.

        x = √(k_hidden/k_in) embedding[token]
        x = res1(x, attn(ln_1 x)), x = res2(x, mlp(ln_2 x))      in each block, on Lorentz(k_hidden)
        h = ln_final(√(k_out/k_hidden) lift(final_proj x))       on Lorentz(k_out)
        logits = mapping h

    with `LorentzRotaryAttention`, `LorentzSwiGLU` of 4 · width coordinates, `SpaceRMSNorm`, and `MidpointResidual` whose space coordinates
    are multiplied by `residual_scale`, by default 4 √width; lift(s) = (√(k + |s|²), s). The mapping takes all coordinates of h, its
    time among them.

    vocab_size, context_length: V and the most tokens in a row. layers, width, heads: `sizes_of` reads them from the authors' `arch`; width
    counts the time, and width/heads is odd. k_in, k_hidden, k_out: of the three hyperboloids, of curvature -1/k, which are not trained.
    dtype: the type of products of matrices, such as bfloat16; all else is computed in float32 at least, whatever the parameters are.

    Parameters: `token_embed/embedding` [V, width], **points** of Lorentz(k_in); `resblocks_i/{ln_1, attn, res1, ln_2, mlp, res2}`;
    `final_proj/{kernel, bias}`, `ln_final`, and `mapping/kernel` [width, V]. Variable without training: `buffers/freqs_complex`
    [context_length, (width/heads - 1)/2, 2], the rotations as pairs of real numbers.

    Errors: ValueError for more tokens than `context_length`, and for an id outside of the vocabulary; under `jit` ids are not looked at,
    and such an id makes its row NaN.
    """

    vocab_size: int
    context_length: int
    layers: int = 6
    width: int = 390
    heads: int = 6
    k_in: float = 1.0
    k_hidden: float = 1.0
    k_out: float = 1.0
    residual_scale: float | None = None
    dtype: Any = None

    def __post_init__(self) -> None:
        require_heads(self.width, self.heads)
        for name in ("k_in", "k_hidden", "k_out"):
            if not LEAST <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; a hyperboloid of curvature -1/k has k > 0, here at least {LEAST}")
        super().__post_init__()

    def setup(self) -> None:
        self.token_embed = PointEmbedding(self.vocab_size, self.width - 1, 1.0)
        scale = 4 * self.width**0.5 if self.residual_scale is None else self.residual_scale
        self.resblocks = [_Block(self.width, self.heads, scale, self.dtype) for _ in range(self.layers)]
        self.final_proj = nn.Dense(self.width - 1, dtype=self.dtype)
        self.ln_final = SpaceRMSNorm()
        self.mapping = nn.Dense(self.vocab_size, use_bias=False, dtype=self.dtype)
        start = lambda: jnp.asarray(rotations(self.context_length, self.width // self.heads - 1))  # noqa: E731
        self.freqs_complex = self.variable("buffers", "freqs_complex", start).value

    def __call__(self, tokens: Tokens) -> Float[Array, "*batch l vocab"]:
        """Logits of the token that follows each."""
        return self.classify(self.encode(tokens))

    def encode(self, tokens: Tokens) -> Points:
        """The points of Lorentz(k_out) that the logits are made of, one for each token."""
        tokens = as_indices("tokens", tokens)
        if not tokens.ndim or not 0 < (length := tokens.shape[-1]) <= self.context_length:
            raise ValueError(f"tokens has shape {tokens.shape}; give rows of 1 to {self.context_length} ids, of a longer text the last")
        hidden = jnp.triu(jnp.ones((length, length), bool), 1)
        space, x = Lorentz(self.k_hidden), self.embed(tokens)
        for block in self.resblocks:
            x = block(space, x, self.freqs_complex[:length], hidden)
        x = lifted(space, widened(self.final_proj(x)), False) * (self.k_out / self.k_hidden) ** 0.5
        return self.ln_final(self.space(), x)

    def embed(self, tokens: Tokens) -> Points:
        """The points of token ids before the first block, on Lorentz(k_hidden)."""
        tokens, known = as_indices("tokens", tokens), require_known(tokens, self.vocab_size)
        x = widened(self.token_embed(Lorentz(self.k_in), jnp.where(known, tokens, 0)))
        return jnp.where(known[..., None], x, jnp.nan) * (self.k_hidden / self.k_in) ** 0.5

    def classify(self, h: Points) -> Float[Array, "*batch l vocab"]:
        """The logits of what `encode` gives."""
        return widened(self.mapping(as_numbers("h", h)))

    def space(self) -> Manifold:
        """The manifold of what `encode` gives."""
        return Lorentz(self.k_out)

    def manifolds(self, params: Params) -> ManifoldTree:
        """The table of tokens lies on Lorentz(k_in); everything else is flat."""
        flat = {name: jax.tree.map(lambda _: Euclidean(), tree) for name, tree in params.items()}
        return {**flat, **({"token_embed": {"embedding": Lorentz(self.k_in)}} if "token_embed" in params else {})}


class _Block(nn.Module):
    """res1(x, attn(ln_1 x)), then res2(x, mlp(ln_2 x))."""

    width: int
    heads: int
    scale: float
    dtype: Any

    @nn.compact
    def __call__(self, manifold: Manifold, x: Points, by: Float[Array, "l e/2 2"], hidden: Array) -> Points:
        seen = LorentzRotaryAttention(self.heads, self.dtype, name="attn")(manifold, SpaceRMSNorm(name="ln_1")(manifold, x), by, hidden)
        x = MidpointResidual(self.scale, as_trained=True, name="res1")(manifold, x, seen)
        made = LorentzSwiGLU(self.width - 1, 4 * self.width - 1, self.dtype, name="mlp")(manifold, SpaceRMSNorm(name="ln_2")(manifold, x))
        return MidpointResidual(self.scale, as_trained=True, name="res2")(manifold, x, made)
