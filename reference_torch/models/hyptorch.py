"""Heads of hyperbolic image embeddings (arXiv 1904.02239): the map into the ball and its softmax, with hyptorch's
parameter names."""

from __future__ import annotations

import geoopt.manifolds.stereographic.math as gmath
import torch
from torch import Tensor, nn

MARGIN = 1e-3


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
        return self.c if isinstance(self.c, Tensor) else x.new_tensor([self.c])

    def forward(self, x: Tensor) -> Tensor:
        k = -self.curvature(x)

        def inside(y: Tensor) -> Tensor:
            return gmath.project(y, k=k, eps=MARGIN)  # pyright: ignore[reportArgumentType]

        at = None if self.xp is None else inside(gmath.expmap0(self.xp, k=k))
        h = inside(gmath.expmap0(x, k=k) if at is None else gmath.expmap(at, x, k=k))
        return _RiemannianGradient.apply(h, self.start) if self.riemannian else h


class HyperbolicMLR(nn.Module):
    """Logits lambda_p |a'| d(x, plane through p = exp_0(p_vals) with normal a), a' = (1 - c |p|^2) a (Ganea et al.
    2018, eq. 25)."""

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.a_vals = nn.Parameter(torch.randn(classes, dim) / dim**0.5)
        self.p_vals = nn.Parameter(torch.randn(classes, dim) / dim**0.5)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        p = gmath.expmap0(self.p_vals, k=-c)
        distance = gmath.dist2plane(x[:, None], p, self.a_vals, k=-c, signed=True)
        return 2 * self.a_vals.norm(dim=-1) * distance


class HypTorch(nn.Module):
    """Features [N, d] -> points of the ball -> class logits."""

    def __init__(self, dim: int, classes: int | None, c: float, *, train_c=False, train_x=False, riemannian=True):
        super().__init__()
        self.tp = ToPoincare(c, train_c=train_c, train_x=train_x, dim=dim, riemannian=riemannian)
        self.mlr = None if classes is None else HyperbolicMLR(dim, classes)

    def encode(self, x: Tensor) -> Tensor:
        return self.tp(x)

    def forward(self, x: Tensor) -> Tensor:
        h = self.encode(x)
        return h if self.mlr is None else self.mlr(h, self.tp.curvature(x))
