"""Activations, dropout and layer norm of points, in the tangent space at the origin or in the space coordinates of the hyperboloid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from geoopt import Lorentz
from torch import Tensor, nn

from reference_torch.layers.linear import lift
from reference_torch.layers.tangent import from_tangent0, to_tangent0


class TangentActivation(nn.Module):
    """exp_0(act(log_0 x))."""

    def __init__(self, act: Callable[[Tensor], Tensor] = torch.relu):
        super().__init__()
        self.act = act

    def forward(self, manifold, x: Tensor) -> Tensor:
        """Points to points."""
        return from_tangent0(manifold, self.act(to_tangent0(manifold, x)))


class SpaceActivation(TangentActivation):
    """act(x_s), time recomputed."""

    def forward(self, manifold: Lorentz, x: Tensor) -> Tensor:
        """Points to points."""
        return lift(manifold, self.act(x[..., 1:]))


class TangentDropout(nn.Module):
    """exp_0(mask log_0 x), with the factor 1/(1 - rate) in the mask."""

    def forward(self, manifold, x: Tensor, mask: Tensor) -> Tensor:
        """Points to points."""
        return from_tangent0(manifold, to_tangent0(manifold, x) * mask)


class SpaceDropout(nn.Module):
    """mask x_s, time recomputed."""

    def forward(self, manifold: Lorentz, x: Tensor, mask: Tensor) -> Tensor:
        """Points to points."""
        return lift(manifold, x[..., 1:] * mask)


class TangentLayerNorm(nn.Module):
    """exp_0(LayerNorm(log_0 x))."""

    def __init__(self, features: int):
        super().__init__()
        self.norm = nn.LayerNorm(features)

    def forward(self, manifold, x: Tensor) -> Tensor:
        """Points to points."""
        return from_tangent0(manifold, self.norm(to_tangent0(manifold, x)))


class SpaceLayerNorm(TangentLayerNorm):
    """LayerNorm(x_s), time recomputed."""

    def forward(self, manifold: Lorentz, x: Tensor) -> Tensor:
        """Points to points."""
        return lift(manifold, self.norm(x[..., 1:]))


class SpaceRMSNorm(nn.Module):
    """x_s over the root of its mean square, time recomputed."""

    def __init__(self, features: int, eps: float = 1e-8):
        super().__init__()
        self.norm = nn.RMSNorm(features, eps)

    def forward(self, manifold: Lorentz, x: Tensor) -> Tensor:
        """Points to points."""
        return lift(manifold, self.norm(x[..., 1:]))
