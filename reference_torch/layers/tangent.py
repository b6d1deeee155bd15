"""Coordinates in the tangent space at the origin, the same for ball, hyperboloid and flat space."""

from __future__ import annotations

import torch
from geoopt import Euclidean, Lorentz
from torch import Tensor, nn
from torch.nn import functional as F


def to_tangent0(manifold, x: Tensor) -> Tensor:
    """log_0(x) in d coordinates; on the hyperboloid without the time part, which is 0."""
    if isinstance(manifold, Euclidean):
        return x
    u = manifold.logmap0(x)
    return u[..., 1:] if isinstance(manifold, Lorentz) else u


def pad_time(manifold, u: Tensor) -> Tensor:
    """The d coordinates as an ambient tangent vector at the origin: a time part 0 in front on the hyperboloid."""
    return F.pad(u, (1, 0)) if isinstance(manifold, Lorentz) else u


def from_tangent0(manifold, u: Tensor) -> Tensor:
    """exp_0(u), projected as geoopt projects."""
    return u if isinstance(manifold, Euclidean) else manifold.expmap0(pad_time(manifold, u))


def translate(manifold, x: Tensor, b: Tensor) -> Tensor:
    """x (+) exp_0(b): Moebius addition on the ball, exp_x(P_{0->x} b) on the hyperboloid."""
    if isinstance(manifold, Euclidean):
        return x + b
    if isinstance(manifold, Lorentz):
        return manifold.expmap(x, manifold.transp0(x, pad_time(manifold, b).expand_as(x)))
    return manifold.mobius_add(x, manifold.expmap0(b))


class HypLinear(nn.Module):
    """z = exp_0(W log_0(x)) (+) exp_0(b) (HGCN, arXiv 1910.12933, eq. 7 and 8)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        nn.init.xavier_uniform_(self.weight, gain=2**0.5)

    def forward(self, manifold, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask` multiplies W: DropConnect with the scale 1 / (1 - p) already in it."""
        weight = self.weight if mask is None else self.weight * mask
        z = from_tangent0(manifold, to_tangent0(manifold, x) @ weight.T)
        return z if self.bias is None else translate(manifold, z, self.bias)
