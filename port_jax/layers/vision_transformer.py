"""The vision transformer of MERU and HyCoCLIP, with fixed positions."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from port_jax.layers.standard import attend

__all__ = ["VisionTransformer", "patch_positions"]

TEMPERATURE = 10_000.0


def patch_positions(side: int, width: int) -> Float[np.ndarray, "1 n width"]:
    """[1, 1 + side², width]: zeros for the class token; for patch n = i side + j sin and cos of i f, then of j f.

    The frequencies f are 10000^(-4 k / width) for k < width/4 (MoCo v3, arXiv 2104.02057). Errors: ValueError if 4 does not divide width.
    """
    if width % 4:
        raise ValueError(f"width is {width}; sines and cosines of two coordinates take a multiple of 4")
    frequencies = TEMPERATURE ** (-np.arange(width // 4) / (width // 4))
    i, j = (index.reshape(-1, 1) * frequencies for index in np.indices((side, side)))
    patches = np.concatenate([np.sin(i), np.cos(i), np.sin(j), np.cos(j)], 1)
    return np.concatenate([np.zeros((1, width)), patches])[None].astype(np.float32)


class VisionTransformer(nn.Module):
    """Features of images: the class token after pre-norm blocks and a LayerNorm (arXiv 2010.11929), with an exact GELU.

    Parameters `cls_token` [1, 1, width], `patch_embed` (a Conv), `blocks_i/{norm1, qkv, proj, norm2, fc1, fc2}` and `norm`;
    `frozen/pos_embed` [1, 1 + patches, width] is not trained. dtype: the type of the products of matrices, such as bfloat16; the residual
    stream, LayerNorms and softmax are computed in float32 at least.
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    dtype: Any = None

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size is {self.image_size}, which patches of {self.patch_size} do not divide")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, which {self.heads} heads do not divide")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Float[Array, "*batch 3 size size"]) -> Float[Array, "*batch width"]:
        side, patch = self.image_size // self.patch_size, (self.patch_size, self.patch_size)
        start = self.param("cls_token", nn.initializers.normal(1e-6), (1, 1, self.width))
        fixed = self.variable("frozen", "pos_embed", lambda: jnp.asarray(patch_positions(side, self.width))).value
        last = jnp.moveaxis(images, -3, -1)
        patches = nn.Conv(self.width, patch, patch, padding="VALID", dtype=self.dtype, name="patch_embed")(last)
        patches = patches.reshape(*patches.shape[:-3], side * side, self.width)
        first = jnp.broadcast_to(start[0], (*patches.shape[:-2], 1, self.width))
        x = jnp.concatenate([first, patches.astype(jnp.promote_types(patches.dtype, jnp.float32))], -2)
        x = x + fixed.reshape(*[1] * (x.ndim - 2), *fixed.shape[1:])
        for n in range(self.depth):
            x = _Block(self.width, self.heads, self.dtype, name=f"blocks_{n}")(x)
        return _norm("norm")(x[..., 0, :])


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    width: int
    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "*batch n width"]) -> Float[Array, "*batch n width"]:
        q, k, v = jnp.split(self._dense("qkv", 3 * self.width)(_norm("norm1")(x)), 3, -1)
        x = x + self._dense("proj", self.width)(attend(q, k, v, self.heads)[0])
        inner = nn.gelu(self._dense("fc1", 4 * self.width)(_norm("norm2")(x)), approximate=False)
        return x + self._dense("fc2", self.width)(inner)

    def _dense(self, name: str, features: int) -> nn.Dense:
        return nn.Dense(features, dtype=self.dtype, kernel_init=nn.initializers.truncated_normal(0.02), name=name)


def _norm(name: str) -> nn.LayerNorm:
    """torch's, whose variance is computed in two passes."""
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)
