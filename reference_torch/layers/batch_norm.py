"""Batch normalisation of points, with running statistics as buffers."""

from __future__ import annotations

import torch
from geoopt import Lorentz, ManifoldParameter
from torch import Tensor, nn

from reference_torch.layers.pooling import midpoint
from reference_torch.layers.tangent import from_tangent0, pad_time, to_tangent0


def mixed(manifold, old: Tensor, new: Tensor, momentum: float) -> Tensor:
    """The midpoint of the two with the weights 1 - momentum and momentum."""
    return midpoint(manifold, torch.stack([old, new]), torch.tensor([1 - momentum, momentum], dtype=new.dtype))


class MidpointBatchNorm(nn.Module):
    """exp_β(sqrt(weight/(var + eps)) PT_{μ→β} log_μ x) with β = exp_0(bias) and var = mean d(μ, x)² (van Spengler et al. 2023)."""

    def __init__(self, manifold, features: int, momentum: float = 0.1, eps: float = 1e-6):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(features))
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("mean", from_tangent0(manifold, torch.zeros(features)).detach())
        self.register_buffer("var", torch.ones(()))

    def forward(self, manifold, x: Tensor) -> Tensor:
        """Points [..., ambient] to points; in training by the statistics of the batch, and with the buffers updated."""
        mean, var = self.mean, self.var
        if self.training:
            mean = midpoint(manifold, x.reshape(-1, x.shape[-1]))
            var = manifold.dist(mean.expand_as(x), x).pow(2).mean()
            with torch.no_grad():
                self.mean.copy_(mixed(manifold, self.mean, mean, self.momentum))
                self.var.mul_(1 - self.momentum).add_(self.momentum * var)
        mean, goal = mean.expand_as(x), from_tangent0(manifold, self.bias).expand_as(x)
        u = manifold.transp(mean, goal, manifold.logmap(mean, x))
        return manifold.expmap(goal, (self.weight / (var + self.eps)).sqrt() * u)


class LorentzBatchNorm(nn.Module):
    """exp_β(PT_{0→β}(gamma/(var + eps) PT_{μ→0} log_μ x)) with the centroid μ and var = mean d(μ, x) (Bdeir et al. 2024)."""

    def __init__(self, manifold: Lorentz, features: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.beta = ManifoldParameter(from_tangent0(manifold, torch.zeros(features)), manifold=manifold)  # pyright: ignore[reportCallIssue]
        self.gamma = nn.Parameter(torch.ones(1))
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("var", torch.ones(1))

    def forward(self, manifold: Lorentz, x: Tensor) -> Tensor:
        """Points [..., d + 1] to points; the mean is that of positions first and of images then."""
        if self.training:
            within = midpoint(manifold, x, dims=range(1, x.ndim - 1)) if x.ndim > 2 else x
            mean = midpoint(manifold, within)
            var = manifold.dist(mean.expand_as(x), x).mean().reshape(1)
            with torch.no_grad():
                old = from_tangent0(manifold, self.mean)
                self.mean.copy_(to_tangent0(manifold, mixed(manifold, old, mean, self.momentum)))
                self.var.mul_(1 - self.momentum).add_(self.momentum * var)
        else:
            mean, var = from_tangent0(manifold, self.mean), self.var
        mean, beta = mean.expand_as(x), self.beta.expand_as(x)
        u = manifold.transp0back(mean, manifold.logmap(mean, x)) * (self.gamma / (var + self.eps))
        return manifold.expmap(beta, manifold.transp0(beta, pad_time(manifold, u[..., 1:])))
