"""Pooling by midpoints: of whole axes, and of windows of images with channels last."""

from __future__ import annotations

from collections.abc import Sequence

from geoopt import Lorentz
from torch import Tensor, nn

from reference_torch.layers.hybonet import inner


def midpoint(manifold, xs: Tensor, weights: Tensor | None = None, dims: Sequence[int] = (-2,)) -> Tensor:
    """m/(1 + sqrt(1 + k|m|²)), m = Σ wλx/Σ w(λ - 1), on the ball; √k a/|a|_L, a = Σ wx, on the hyperboloid.

    geoopt's weighted_midpoint adds 1e-10 to the denominator.
    """
    if not isinstance(manifold, Lorentz):
        lam, w = manifold.lambda_x(xs, keepdim=True), 1 if weights is None else weights[..., None]
        m = (w * lam * xs).sum(tuple(dims)) / (w * (lam - 1)).sum(tuple(dims)).clamp_min(1e-15)
        return m / (1 + (1 + manifold.k * m.pow(2).sum(-1, keepdim=True)).clamp_min(1e-15).sqrt())
    total = (xs if weights is None else weights[..., None] * xs).sum(tuple(dims))
    return manifold.k.sqrt() * total / inner(total, total).abs().clamp_min(1e-30).sqrt()


def windows(x: Tensor, size: tuple[int, int], strides: tuple[int, int]) -> Tensor:
    """Windows [..., i, j, positions, c] of images [..., h, w, c]."""
    parts = x.unfold(-3, size[0], strides[0]).unfold(-3, size[1], strides[1])  # [..., i, j, c, rows, columns]
    return parts.flatten(-2).transpose(-1, -2)


class MidpointPool(nn.Module):
    """The midpoint over one axis."""

    def forward(self, manifold, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """Points [..., n, ambient] to points [..., ambient]."""
        return midpoint(manifold, x, weights)


class MidpointPool2d(nn.Module):
    """The midpoint of each window."""

    def __init__(self, window: tuple[int, int], strides: tuple[int, int]):
        super().__init__()
        self.window, self.strides = window, strides

    def forward(self, manifold, x: Tensor) -> Tensor:
        """Points [..., h, w, ambient] to points [..., i, j, ambient]."""
        return midpoint(manifold, windows(x, self.window, self.strides))
