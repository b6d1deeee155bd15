"""Attention over sequences of points of the hyperboloid."""

from __future__ import annotations

import math

import torch
from geoopt import Lorentz
from torch import Tensor, nn

from reference_torch.layers.hybonet import inner
from reference_torch.layers.linear import LorentzFullyConnected, lift


class LorentzAttention(nn.Module):
    """softmax(-|q - k|²_L/scale) of each head, the centroid of its values, heads joined by direct concatenation and a linear map."""

    def __init__(self, in_ambient: int, features: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (LorentzFullyConnected(in_ambient, features) for _ in range(3))
        self.out = LorentzFullyConnected(features + 1, features)
        self.scale = nn.Parameter(torch.tensor(math.sqrt(features)))

    def split(self, manifold: Lorentz, x: Tensor) -> Tensor:
        """[..., n, d + 1] to points [..., heads, n, d/heads + 1]."""
        space = x[..., 1:].unflatten(-1, (self.heads, -1)).transpose(-2, -3)
        return lift(manifold, space)

    def forward(self, manifold: Lorentz, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Points [..., n, d + 1] that attend to points [..., m, e + 1], where the mask [n, m] is True."""
        query, key, value = (
            self.split(manifold, module(manifold, a)) for module, a in ((self.query, x), (self.key, context), (self.value, context))
        )
        apart = query[..., :, None, :] - key[..., None, :, :]
        logits = -inner(apart, apart)[..., 0] / self.scale
        if mask is not None:
            logits = logits.masked_fill(~mask, -1e18)
        total = torch.softmax(logits, -1) @ value
        middle = manifold.k.sqrt() * total / inner(total, total).abs().sqrt()
        heads = middle.transpose(-2, -3)
        time = (heads[..., 0].pow(2).sum(-1, keepdim=True) - (self.heads - 1) * manifold.k).sqrt()
        return self.out(manifold, torch.cat([time, heads[..., 1:].flatten(-2)], -1))
