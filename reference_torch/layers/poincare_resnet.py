"""The layers of Poincaré ResNet (maxvanspengler/poincare-resnet), from their formulas. An image has its channels on axis 1.

They take and give tangent vectors at the origin. Every layer keeps its ball, whose raw curvature is a parameter even if it is not trained.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.layers import hypll
from reference_torch.layers.hypll import exp0, factor, log0, project, shortened, square


class Ball(nn.Module):
    """The ball of c = isp_c if `own` derivatives are taken and it is not trained, else of c = softplus(isp_c)."""

    def __init__(self, isp_c: float, own: bool = True, learnable: bool = False):
        super().__init__()
        self.isp_c = nn.Parameter(torch.tensor(isp_c, dtype=torch.float32), requires_grad=learnable)
        self.own, self.learnable = own, learnable

    def c(self) -> Tensor:
        """The curvature is minus this."""
        return self.isp_c if self.own and not self.learnable else F.softplus(self.isp_c)


class Add(torch.autograd.Function):
    """x ⊕ y = N/D. By x and y the derivatives are right; by c, with the cotangent g, there is 1/(D max(q, 1e-15)) for q/D.

    q = (2<x, y> + |y|²) <g, x> - |x|² <g, y>, and the rest of the derivative is -2(<x, y> + c|x|²|y|²) <g, N>/D².
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        ctx.save_for_backward(x, y, c)
        return hypll.add(x, y, c)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, y, c = ctx.saved_tensors
        with torch.enable_grad():
            one, two = x.detach().requires_grad_(), y.detach().requires_grad_()
            by_x, by_y = torch.autograd.grad(hypll.add(one, two, c.detach()), (one, two), g)
        dot = lambda a, b: (a * b).sum(-1, keepdim=True)  # noqa: E731
        xy, xx, yy, gx, gy = dot(x, y), square(x), square(y), dot(g, x), dot(g, y)
        below = (1 + 2 * c * xy + c**2 * xx * yy).clamp_min(hypll.TINY)
        above = (1 + 2 * c * xy + c * yy) * gx + (1 - c * xx) * gy
        slip = 1 / (below * ((2 * xy + yy) * gx - xx * gy).clamp_min(hypll.TINY))
        return by_x, by_y, (slip - 2 * (xy + c * xx * yy) * above / below**2).sum()


def add(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """`Add` of tensors that broadcast."""
    x, y = torch.broadcast_tensors(x, y)
    return Add.apply(x, y, c)  # pyright: ignore[reportReturnType]


def dist(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """2/√c artanh(√c|(-x) ⊕ y|), by `Add`."""
    return 2 / c.sqrt() * torch.atanh(c.sqrt() * add(-x, y, c).norm(dim=-1))


def log(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """2/(√c lambda_x) artanh(√c|w|) w/|w| with w = (-x) ⊕ y, by `Add`."""
    w = add(-x, y, c)
    length = w.norm(dim=-1, keepdim=True).clamp_min(hypll.TINY)
    return 2 / (c.sqrt() * factor(x, c)) * torch.atanh(c.sqrt() * length) * w / length


def exp(x: Tensor, u: Tensor, c: Tensor) -> Tensor:
    """x ⊕ tanh(√c lambda_x|u|/2) u/(√c|u|), projected, by `Add`."""
    length = u.norm(dim=-1, keepdim=True).clamp_min(hypll.TINY)
    return project(add(x, torch.tanh(c.sqrt() * factor(x, c) * length / 2) * u / (c.sqrt() * length), c), c)


def transport(x: Tensor, y: Tensor, u: Tensor, c: Tensor) -> Tensor:
    """gyr[y, -x] u lambda_x/lambda_y, with gyr[a, b] u = -(a ⊕ b) ⊕ (a ⊕ (b ⊕ u)), by `Add`; a ⊕ b is added once for all u."""
    turned = add(-add(y, -x, c), add(y, add(-x, u, c), c), c)
    return turned * factor(x, c) / factor(y, c)


def fully_connected(x: Tensor, z: Tensor, r: Tensor, c: Tensor) -> Tensor:
    """w/(1 + sqrt(1 + c|w|²)), w = sinh(√c v)/√c, projected; in v lambda is 2(1 - c|x|²), where a distance has 2/(1 - c|x|²)."""
    root, length, lam = c.sqrt(), z.norm(dim=0).clamp_min(hypll.TINY), 2 * (1 - c * square(x))
    inside = lam * root * (x @ z) / length * torch.cosh(2 * root * r) - (lam - 1) * torch.sinh(2 * root * r)
    w = torch.sinh(2 * length * torch.asinh(inside)) / root
    return project(w / (1 + (1 + c * square(w)).sqrt()), c)


class PoincareConvolution2d(nn.Module):
    """Tangent vectors [b, in, h, w] to [b, out, i, j]."""

    def __init__(self, in_channels: int, out_channels: int, size: int, ball: Ball, stride: int = 1, padding: int = 0):
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weights = nn.Parameter(0.5 * torch.eye(size**2 * in_channels, out_channels))
        self.ball = ball

    def forward(self, u: Tensor) -> Tensor:
        """The linear map of each window, whose entries are shortened by the beta factor; the order of rows is the channel, the position."""
        c, n = self.ball.c(), u.shape[1]
        height, width = ((side + 2 * self.padding - self.size) // self.stride + 1 for side in u.shape[2:])
        windows = F.unfold(u * shortened(n * self.size**2, n), self.size, padding=self.padding, stride=self.stride).movedim(1, -1)
        y = fully_connected(exp0(windows, c), self.weights, self.bias, c)
        return log0(y, c).movedim(-1, 1).unflatten(-1, (height, width))


class PoincareLinear(nn.Module):
    """Tangent vectors [..., in] to [..., out]."""

    def __init__(self, in_features: int, out_features: int, ball: Ball):
        super().__init__()
        self.z = nn.Parameter(0.5 * torch.eye(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.ball = ball

    def forward(self, u: Tensor) -> Tensor:
        """log_0 of the linear map of exp_0(u)."""
        c = self.ball.c()
        return log0(fully_connected(exp0(u, c), self.z, self.bias, c), c)


class PoincareBatchNorm(nn.Module):
    """exp_β(sqrt(var/(v + 1e-6)) PT_{μ→β} log_μ x), β = exp_0(mean), with μ and v of the batch. The running statistics never change."""

    def __init__(self, features: int, ball: Ball, use_midpoint: bool = True):
        super().__init__()
        self.ball, self.use_midpoint = ball, use_midpoint
        self.mean, self.var = nn.Parameter(torch.zeros(features)), nn.Parameter(torch.tensor(1.0))
        self.register_buffer("running_mean", torch.zeros(1, features))
        self.register_buffer("running_var", torch.tensor(1.0))

    def forward(self, u: Tensor) -> Tensor:
        """Tangent vectors [n, d] to such. The distance of the variance is by `Add`, whether the ball has derivatives of its own or not."""
        c, own = self.ball.c(), self.ball.own
        x, goal = exp0(u, c), exp0(self.mean, c)
        mu = hypll.midpoint(x, c) if self.use_midpoint else hypll.FrechetMean.apply(x, c)
        scale = (self.var / (dist(x, mu, c).pow(2).mean() + 1e-6)).sqrt()
        if own:
            return log0(exp(goal, scale * transport(mu, goal, log(mu, x, c), c), c), c)
        return log0(hypll.exp(goal, scale * hypll.transport(mu, goal, hypll.log(mu, x, c), c), c), c)


class PoincareBatchNorm2d(nn.Module):
    """The same of all pixels of [b, d, h, w]."""

    def __init__(self, features: int, ball: Ball, use_midpoint: bool = True):
        super().__init__()
        self.ball, self.norm = ball, PoincareBatchNorm(features, ball, use_midpoint)

    def forward(self, u: Tensor) -> Tensor:
        """Tangent vectors to tangent vectors."""
        rows = u.movedim(1, -1)
        return self.norm(rows.flatten(0, 2)).reshape(rows.shape).movedim(-1, 1)
