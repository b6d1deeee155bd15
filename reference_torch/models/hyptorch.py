"""Heads of hyperbolic image embeddings (arXiv 1904.02239): the map into the ball and its softmax, with hyptorch's
parameter names."""

from __future__ import annotations

import geoopt.manifolds.stereographic.math as gmath
import torch
from torch import Tensor, nn

MARGIN, EXTRA = 1e-3, 1e-5


def add(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """Moebius addition with 1e-5 more in the denominator, as the authors' code has it."""
    xy, xx, yy = ((a * b).sum(-1, keepdim=True) for a, b in ((x, y), (x, x), (y, y)))
    return ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / (1 + 2 * c * xy + c * c * xx * yy + EXTRA)


class _RiemannianGradient(torch.autograd.Function):
    """The identity, whose gradient is scaled by ((1 - c |x|^2) / 2)^2."""

    @staticmethod
    def forward(ctx, x: Tensor, c: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        ctx.c = c
        return x

    @staticmethod
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return grad * (1 - ctx.c * x.pow(2).sum(-1, keepdim=True)) ** 2 / 4, None


class ToPoincare(nn.Module):
    """exp_0(x), or exp_p(x) at the trained point p = exp_0(xp); kept inside of the radius (1 - 1e-3) / sqrt(c)."""

    def __init__(self, c: float, *, train_c=False, train_x=False, dim: int | None = None, riemannian=True):
        super().__init__()
        self.xp = nn.Parameter(torch.zeros(dim)) if train_x and dim is not None else None
        self.c = nn.Parameter(torch.tensor([c])) if train_c else c
        self.start, self.riemannian = c, riemannian

    def curvature(self, x: Tensor) -> Tensor:
        """c [1]: the parameter, or the constant in x's type."""
        return self.c if isinstance(self.c, Tensor) else x.new_tensor([self.c])

    def forward(self, x: Tensor) -> Tensor:
        """Points of the ball from features x [B, d]: exp at xp, or at the origin if there is none."""
        k = -self.curvature(x)

        def inside(y: Tensor) -> Tensor:
            return gmath.project(y, k=k, eps=MARGIN)  # pyright: ignore[reportArgumentType]

        at = None if self.xp is None else inside(gmath.expmap0(self.xp, k=k))
        u = x if at is None else x / (1 + k * at.pow(2).sum())  # lambda_p / 2 x
        h = gmath.expmap0(u, k=k)
        h = inside(h if at is None else add(at, h, -k))
        return _RiemannianGradient.apply(h, self.start) if self.riemannian else h


class HyperbolicMLR(nn.Module):
    """Logits lambda_p |a'| d(x, plane through p = exp_0(p_vals) with normal a), a' = (1 - c |p|^2) a (Ganea et al.
    2018, eq. 25)."""

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.a_vals = nn.Parameter(torch.randn(classes, dim) / dim**0.5)
        self.p_vals = nn.Parameter(torch.randn(classes, dim) / dim**0.5)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Logits [B, classes] of points x [B, d] of the ball of curvature -c."""
        p = gmath.expmap0(self.p_vals, k=-c)
        z = add(-p, x[:, None], c)
        norm = self.a_vals.norm(dim=-1)
        overlap = (z * self.a_vals).sum(-1) / (norm * (1 - c * z.pow(2).sum(-1)))
        return 2 * norm / c.sqrt() * torch.asinh(2 * c.sqrt() * overlap)


class HypTorch(nn.Module):
    """Features [N, d] -> points of the ball -> class logits."""

    def __init__(self, dim: int, classes: int | None, c: float, *, train_c=False, train_x=False, riemannian=True):
        super().__init__()
        self.tp = ToPoincare(c, train_c=train_c, train_x=train_x, dim=dim, riemannian=riemannian)
        self.mlr = None if classes is None else HyperbolicMLR(dim, classes)

    def encode(self, x: Tensor) -> Tensor:
        """Points [B, d] from features x [B, d]."""
        return self.tp(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes], or the points if there are no classes."""
        h = self.encode(x)
        return h if self.mlr is None else self.mlr(h, self.tp.curvature(x))
