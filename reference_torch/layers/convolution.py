"""Convolutions of images whose pixels are points, with channels last."""

from __future__ import annotations

from math import lgamma

import torch
from geoopt import Lorentz
from torch import Tensor
from torch.nn import functional as F

from reference_torch.layers.linear import LorentzFullyConnected, PoincareLinear
from reference_torch.layers.pooling import windows

Pair = tuple[int, int]


def log_beta(n: int) -> float:
    """log B(n/2, 1/2)."""
    return lgamma(n / 2) + lgamma(0.5) - lgamma((n + 1) / 2)


class PoincareConv2d(PoincareLinear):
    """HNN++'s convolution as HypLL stores it: `z` [in rows columns, out], channels first."""

    def __init__(self, in_features: int, features: int, size: Pair, strides: Pair, padding: Pair):
        super().__init__(in_features * size[0] * size[1], features)
        self.size, self.strides, self.padding = size, strides, padding

    def forward(self, manifold, x: Tensor) -> Tensor:
        """Points [n, h, w, in] of the ball to points [n, i, j, out]."""
        n, wide = x.shape[-1], self.z.shape[0]
        u = manifold.logmap0(x) * torch.exp(torch.tensor(log_beta(wide) - log_beta(n), dtype=torch.float64)).to(x.dtype)
        u = F.pad(u, (0, 0, *[self.padding[1]] * 2, *[self.padding[0]] * 2))
        joined = windows(u, self.size, self.strides).transpose(-1, -2).flatten(-2)
        return super().forward(manifold, manifold.expmap0(joined))


class LorentzConv2d(LorentzFullyConnected):
    """A fully connected layer of [sqrt(Σ t² - (K - 1) k), spaces of the K positions]; zeros around the image become origins."""

    def __init__(self, in_features: int, features: int, size: Pair, strides: Pair, padding: Pair):
        super().__init__(1 + in_features * size[0] * size[1], features)
        self.size, self.strides, self.padding = size, strides, padding

    def forward(self, manifold: Lorentz, x: Tensor) -> Tensor:
        """Points [n, h, w, in + 1] of the hyperboloid to points [n, i, j, out + 1]."""
        x = F.pad(x, (0, 0, *[self.padding[1]] * 2, *[self.padding[0]] * 2))
        parts = windows(x, self.size, self.strides)
        time = torch.maximum(parts[..., :1], manifold.k.sqrt())
        time = (time.pow(2).sum(-2) - (parts.shape[-2] - 1) * manifold.k).sqrt()
        return super().forward(manifold, torch.cat([time, parts[..., 1:].flatten(-2)], -1))
