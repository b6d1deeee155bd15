"""Residual connections: a point and what a block made of it become one point."""

from __future__ import annotations

import torch
from geoopt import Lorentz
from torch import Tensor, nn

from reference_torch.layers.linear import lift
from reference_torch.layers.pooling import midpoint
from reference_torch.layers.tangent import to_tangent0, translate


class MobiusResidual(nn.Module):
    """x ⊕ y."""

    def forward(self, manifold, x: Tensor, y: Tensor) -> Tensor:
        """Two points to one."""
        return translate(manifold, x, to_tangent0(manifold, y)) if isinstance(manifold, Lorentz) else manifold.mobius_add(x, y)


class MidpointResidual(nn.Module):
    """The midpoint of x and y with the weights 1 and w; with `scale` its space coordinates times that, on the hyperboloid."""

    def __init__(self, scale: float | None = None):
        super().__init__()
        self.w_y, self.scale = nn.Parameter(torch.ones(())), scale

    def forward(self, manifold, x: Tensor, y: Tensor) -> Tensor:
        """Two points to one."""
        both = torch.stack([x, y], -2)
        weights = torch.stack([torch.ones_like(self.w_y), self.w_y]).expand(both.shape[:-1])
        middle = midpoint(manifold, both, weights)
        return middle if self.scale is None else lift(manifold, self.scale * middle[..., 1:])


class SpaceResidual(nn.Module):
    """x_s + y_s, time recomputed."""

    def forward(self, manifold: Lorentz, x: Tensor, y: Tensor) -> Tensor:
        """Two points to one."""
        return lift(manifold, x[..., 1:] + y[..., 1:])
