"""Pooling by midpoints: of whole axes, and of windows of images with channels last."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.checks import as_numbers
from port_jax.manifolds import Manifold

__all__ = ["MidpointPool", "MidpointPool2d", "framed", "windows"]


def framed(manifold: Manifold, x: Float[Array, "*batch h w ambient"], padding: tuple[int, int]) -> Float[Array, "*batch i j ambient"]:
    """The image in a frame of origins."""
    if padding == (0, 0):
        return x
    height, width = x.shape[-3:-1]
    frame = manifold.origin(*x.shape[:-3], height + 2 * padding[0], width + 2 * padding[1], x.shape[-1], dtype=x.dtype)
    return frame.at[..., padding[0] : padding[0] + height, padding[1] : padding[1] + width, :].set(x)


def windows(x: Float[Array, "*batch h w c"], size: tuple[int, int], strides: tuple[int, int]) -> Float[Array, "*batch i j p c"]:
    """All windows that fit, their p = size[0] size[1] positions row by row. ValueError where none fits."""
    (height, width), (rows, columns) = x.shape[-3:-1], size
    if height < rows or width < columns:
        raise ValueError(f"a window of {rows} x {columns} does not fit an image of {height} x {width}: choose a smaller one, or pad")
    parts = [
        x[..., i : height - rows + i + 1 : strides[0], j : width - columns + j + 1 : strides[1], :]
        for i in range(rows)
        for j in range(columns)
    ]
    return jnp.stack(parts, -2)


class MidpointPool(nn.Module):
    """The midpoint over `axes`: the gyro-midpoint on a ball, the centroid on a hyperboloid, which are the same point.

    `weights` has the shape of x without its last axis: 0 and 1 leave out what pads a sequence.
    """

    axes: tuple[int, ...] = (-2,)

    def __call__(self, manifold: Manifold, x: Float[Array, "*batch ambient"], weights: Float[Array, "*batch"] | None = None):
        return manifold.weighted_midpoint(as_numbers("x", x), weights, reducedim=self.axes)  # pyright: ignore[reportAttributeAccessIssue]


class MidpointPool2d(nn.Module):
    """The midpoint of each window [*batch, h, w, ambient] -> [*batch, i, j, ambient].

    HypLL's HAvgPool2d shortens the tangent vectors of a window by the beta factor of a convolution first, and so gives other points
    (`HAvgPool2d`); that of Bdeir et al. (2024) is this layer with one window for the whole image.
    """

    window: tuple[int, int]
    strides: tuple[int, int] | None = None

    def __call__(self, manifold: Manifold, x: Float[Array, "*batch h w ambient"]) -> Float[Array, "*batch i j ambient"]:
        parts = windows(as_numbers("x", x), self.window, self.strides or self.window)
        return manifold.weighted_midpoint(parts, reducedim=(-2,))  # pyright: ignore[reportAttributeAccessIssue]
