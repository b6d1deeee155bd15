"""Multinomial logistic regression: logits as signed distances to hyperplanes times the lengths of their normals."""

from __future__ import annotations

import torch
from geoopt import Lorentz, ManifoldParameter
from torch import Tensor, nn

from reference_torch.layers.hybonet import inner
from reference_torch.layers.linear import unidirectional_poincare
from reference_torch.layers.tangent import from_tangent0, pad_time


class GaneaMLR(nn.Module):
    """λ_p|a| d(x, H) for hyperplanes through points p with normals a transported from the origin (Ganea et al. 2018, equation 25)."""

    def __init__(self, manifold, features: int, classes: int):
        super().__init__()
        self.points = ManifoldParameter(from_tangent0(manifold, 0.1 * torch.randn(classes, features)), manifold=manifold)  # pyright: ignore[reportCallIssue]
        self.normals = nn.Parameter(torch.empty(classes, features))
        nn.init.xavier_uniform_(self.normals)

    def forward(self, manifold, x: Tensor) -> Tensor:
        """Logits [..., classes] of points x [..., d], or [..., d + 1] of the hyperboloid."""
        p, a = self.points, manifold.transp0(self.points, pad_time(manifold, self.normals))
        length = manifold.norm(a) if isinstance(manifold, Lorentz) else manifold.norm(p, a)
        if isinstance(manifold, Lorentz):
            root = manifold.k.sqrt()
            product = inner(x[..., None, :], a)[..., 0]
            return length * root * torch.asinh(product / (root * length))
        return length * manifold.dist2plane(x[..., None, :], p, a, signed=True)


class PoincareMLR(nn.Module):
    """2|z_j| d(x, H_j) for hyperplanes by direction and offset (Shimizu et al. 2021, equation 6)."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.z = nn.Parameter(torch.empty(features, classes))
        nn.init.xavier_uniform_(self.z)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, manifold, x: Tensor) -> Tensor:
        """Logits [..., classes] of points x [..., d] of the ball."""
        return unidirectional_poincare(x, self.z, self.bias, -manifold.k)


class LorentzMLR(nn.Module):
    """sign(alpha) beta √k |asinh(alpha/(√k beta))|, alpha = -w_t x_t + cosh(a/√k) <z, x_s>, w_t = sinh(a/√k)|z| (Bdeir et al. 2024)."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.z = nn.Parameter(torch.empty(classes, features))
        nn.init.xavier_uniform_(self.z)
        self.a = nn.Parameter(torch.zeros(classes))

    def forward(self, manifold: Lorentz, x: Tensor) -> Tensor:
        """Logits [..., classes] of points x [..., d + 1] of the hyperboloid."""
        root, length = manifold.k.sqrt(), self.z.norm(dim=-1)
        time, space = torch.sinh(self.a / root) * length, torch.cosh(self.a / root)[:, None] * self.z
        beta = (space.pow(2).sum(-1) - time.pow(2)).clamp_min(1e-30).sqrt()
        alpha = x[..., 1:] @ space.T - time * x[..., :1]
        return torch.sign(alpha) * beta * root * torch.asinh(alpha / (root * beta)).abs()
