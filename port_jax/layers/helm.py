"""Layers of HELM on the hyperboloid of any k: attention with rotations, and a SwiGLU (arXiv 2505.24722)."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from port_jax.checks import as_numbers
from port_jax.layers.attention import closeness
from port_jax.layers.linear import lifted
from port_jax.layers.models_of_space import require_time
from port_jax.manifolds import Manifold
from port_jax.manifolds.hyperboloid.gyrogroup import centroid

__all__ = ["LorentzRotaryAttention", "LorentzSwiGLU", "require_heads", "rotated", "rotations", "widened"]

BASE = 10000.0
"""Of the wavelengths of rotations."""
_xavier = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")


def rotations(length: int, features: int) -> Float[np.ndarray, "length features/2 2"]:
    """cos and sin of m θ_j, θ_j = 10000^(-2j/features), for positions m < length, computed in float32 as the authors do.

    An angle of 1000 rounds by 3e-5 in float32: a converted model has the file's own numbers.
    """
    theta = np.float32(1) / np.float32(BASE) ** (np.arange(0, features, 2, dtype=np.float32) / np.float32(features))
    angles = np.arange(length, dtype=np.float32)[:, None] * theta
    return np.stack([np.cos(angles), np.sin(angles)], -1)


def rotated(x: Float[Array, "*batch n h e"], by: Float[Array, "n e/2 2"]) -> Float[Array, "*batch n h e"]:
    """Pairs of neighbouring numbers (a, b) as a + ib, times cos + i sin of each position (RoPE, Su et al. 2021)."""
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    a, b = pairs[..., 0], pairs[..., 1]
    cos, sin = (by[..., n].astype(x.dtype).reshape(*[1] * (x.ndim - 3), len(by), 1, -1) for n in (0, 1))
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)


def widened(x: Array) -> Array:
    """x in float32 at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class LorentzRotaryAttention(nn.Module):
    """Heads of α = softmax_j(-|R_i q_i - R_j k_j|²_L/scale + bias), each the centroid of its values, joined and mapped linearly.

    q, k and v are the space coordinates W x + b of the whole x, time included, [h, d - 1] of them; queries and keys are turned by the
    rotation R of their position (`rotated`), and all are lifted to the hyperboloid. Heads are joined **with their times**, which is no
    point: `LorentzAttention` joins them to one. Parameters: `Wq`, `Wk`, `Wv` [h d, h (d - 1)], `final_linear` [h d, h d - 1], each
    {kernel, bias}, `scale` [], which starts at sqrt(h d), and `bias` [], which a softmax does not see: its derivative is rounding.

    x: [*batch, n, h d], where d counts the time of a head. by: `rotations` of the n positions. hidden: where it is True nothing is attended
    to. dtype: of products of matrices, such as bfloat16; all else is computed in float32 at least.

    Errors: ValueError for coordinates that the heads do not divide, or with an even number left in each.
    """

    heads: int
    dtype: Any = None

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch n w"], by: Float[Array, "n e/2 2"],
                 hidden: Bool[Array, "n n"] | None = None) -> Float[Array, "*batch n w"]:  # fmt: skip
        require_time(self, manifold, "points mapped by ball_to_hyperboloid")
        x = as_numbers("x", x)
        width = x.shape[-1]
        require_heads(width, self.heads)
        query, key, value = (self._heads(name, x) for name in ("Wq", "Wk", "Wv"))
        query, key, value = (lifted(manifold, s, False) for s in (rotated(query, by), rotated(key, by), value))
        scale = self.param("scale", nn.initializers.constant(math.sqrt(width)), ())
        bias = self.param("bias", nn.initializers.zeros, ())
        logits = closeness(query, key, self.dtype) / scale + bias
        if hidden is not None:
            shown = jnp.broadcast_to(hidden.reshape(*[1] * (logits.ndim - 2), *hidden.shape), logits.shape)
            logits = jnp.where(shown, jnp.finfo(logits.dtype).min, logits)
        given = [a if self.dtype is None else a.astype(self.dtype) for a in (jax.nn.softmax(logits, -1), value)]
        total = jnp.einsum("...hnm,...mhc->...nhc", *given, preferred_element_type=value.dtype)
        heads = centroid(total, manifold.k)  # pyright: ignore[reportAttributeAccessIssue]
        joined = heads.reshape(*x.shape[:-1], width)
        return lifted(manifold, widened(nn.Dense(width - 1, dtype=self.dtype, name="final_linear")(joined)), False)

    def _heads(self, name: str, x: Float[Array, "*batch n w"]) -> Float[Array, "*batch n h e"]:
        """A linear map of x, divided among the heads."""
        width = x.shape[-1]
        space = nn.Dense(width - self.heads, dtype=self.dtype, name=name)(x)
        return widened(space).reshape(*x.shape[:-1], self.heads, width // self.heads - 1)


def require_heads(width: int, heads: int) -> None:
    """Raises ValueError where heads do not divide the width, or leave each an odd number of space coordinates, which are no pairs."""
    if heads < 1 or width % heads or width // heads < 3 or width // heads % 2 == 0:
        raise ValueError(
            f"heads is {heads}, and points have {width} coordinates; each head needs the same odd number of them, of which the first is "
            "its time, and the others make pairs"
        )


class LorentzSwiGLU(nn.Module):
    """y = lift(w2(lift(silu(w1 x) * w3 x))), where w(x) = W x + b of the whole x and lift(s) = (sqrt(k + |s|²), s).

    Parameters: `w1`, `w3` [in + 1, hidden] and `w2` [hidden + 1, features], each {kernel, bias}; hidden and features count without
    the time. dtype: as that of `LorentzRotaryAttention`.
    """

    features: int
    hidden: int
    dtype: Any = None

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch in+1"]) -> Float[Array, "*batch out+1"]:
        require_time(self, manifold, "points mapped by ball_to_hyperboloid")
        x = as_numbers("x", x)
        gate, value = (self._dense(self.hidden, name, x) for name in ("w1", "w3"))
        return lifted(manifold, self._dense(self.features, "w2", lifted(manifold, jax.nn.silu(gate) * value, False)), False)

    def _dense(self, features: int, name: str, x: Array) -> Array:
        return widened(nn.Dense(features, dtype=self.dtype, kernel_init=_xavier, name=name)(x))
