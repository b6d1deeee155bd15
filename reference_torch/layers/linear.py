"""Linear maps from points to points, on geoopt's manifolds: the first argument of each call."""

from __future__ import annotations

import torch
from geoopt import Lorentz, ManifoldParameter
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.layers.tangent import from_tangent0, to_tangent0, translate


def lift(manifold: Lorentz, space: Tensor) -> Tensor:
    """The point of the hyperboloid with these space coordinates."""
    return torch.cat([(manifold.k + space.pow(2).sum(-1, keepdim=True)).sqrt(), space], -1)


def unidirectional_poincare(x: Tensor, z: Tensor, r: Tensor, c: Tensor) -> Tensor:
    """2|z_j|/√c asinh(λ <√c x, z_j/|z_j|> cosh(2√c r_j) - (λ - 1) sinh(2√c r_j)) (Shimizu et al. 2021, equation 6)."""
    root, length = c.sqrt(), z.norm(dim=0).clamp_min(1e-15)
    lam = 2 / (1 - c * x.pow(2).sum(-1, keepdim=True))
    inside = lam * root * (x @ z) / length * torch.cosh(2 * root * r) - (lam - 1) * torch.sinh(2 * root * r)
    return 2 * length / root * torch.asinh(inside)


class MobiusLinear(nn.Module):
    """(W ⊗ x) ⊕ b with a point b of the manifold."""

    def __init__(self, manifold, in_features: int, features: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, in_features))
        nn.init.xavier_uniform_(self.weight)
        start = from_tangent0(manifold, torch.zeros(features))
        self.bias = ManifoldParameter(start, manifold=manifold) if bias else None  # pyright: ignore[reportCallIssue]

    def forward(self, manifold, x: Tensor) -> Tensor:
        """Points x [..., in] to points [..., features], one coordinate more on the hyperboloid."""
        if isinstance(manifold, Lorentz):
            y = from_tangent0(manifold, to_tangent0(manifold, x) @ self.weight.T)
            return y if self.bias is None else translate(manifold, y, to_tangent0(manifold, self.bias))
        y = manifold.mobius_matvec(self.weight, x)
        return y if self.bias is None else manifold.mobius_add(y, self.bias)


class PoincareLinear(nn.Module):
    """y = w/(1 + sqrt(1 + c|w|²)), w = sinh(√c v)/√c with the v of `unidirectional_poincare`."""

    def __init__(self, in_features: int, features: int):
        super().__init__()
        self.z = nn.Parameter(torch.empty(in_features, features))
        nn.init.xavier_uniform_(self.z)
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, manifold, x: Tensor) -> Tensor:
        """Points x [..., in] of the ball to points [..., features]."""
        c = -manifold.k
        w = torch.sinh(c.sqrt() * unidirectional_poincare(x, self.z, self.bias, c)) / c.sqrt()
        return manifold.projx(w / (1 + (1 + c * w.pow(2).sum(-1, keepdim=True)).sqrt()))


class LorentzFullyConnected(nn.Module):
    """Space coordinates W x + b, time recomputed."""

    def __init__(self, in_ambient: int, features: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, in_ambient))
        nn.init.xavier_uniform_(self.weight)
        self.bias = nn.Parameter(torch.zeros(features)) if bias else None

    def forward(self, manifold: Lorentz, x: Tensor) -> Tensor:
        """Points x [..., in + 1] of the hyperboloid to points [..., features + 1]."""
        return lift(manifold, F.linear(x, self.weight, self.bias))
