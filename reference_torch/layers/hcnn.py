"""HyperbolicCV's layers on the hyperboloid of radius √k, from their formulas, with its names of parameters and its bounds.

Images have their channels last, a point its time first. Every module keeps the manifold, so that k is in a state_dict once for each. Its
copy of geoopt 0.5.0 has the formulas of geoopt 0.5.1 but for one: no exponential map goes farther than 10 √k.
"""

from __future__ import annotations

import geoopt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.layers.hybonet import inner

LONGEST, SHORTEST = 10.0, 1e-8


class Hyperboloid(geoopt.Lorentz):
    """geoopt's hyperboloid with the maps of HyperbolicCV. What optimizers use is geoopt's."""

    def lift(self, space: Tensor) -> Tensor:
        """The point with these space coordinates."""
        return torch.cat([(space.norm(dim=-1, keepdim=True) ** 2 + self.k).sqrt(), space], -1)

    def centroid(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """√k a/|a|, a the mean, or the sum with weights, over the axis before the last."""
        a = x.mean(-2) if weights is None else weights @ x
        return self.k.sqrt() * a / inner(a, a).abs().clamp_min(1e-8).sqrt()

    def bounded_exp(self, x: Tensor, u: Tensor) -> Tensor:
        """exp_x(u), at most 10 √k from x; u becomes tangent at x, and the time of the result is recomputed."""
        u = u + inner(x, u) * x / self.k
        length = inner(u, u).clamp_min(SHORTEST).sqrt()
        r = (length / self.k.sqrt()).clamp_max(LONGEST)
        return self.projx(torch.cosh(r) * x + self.k.sqrt() * torch.sinh(r) * u / length)

    def bounded_exp0(self, u: Tensor) -> Tensor:
        """exp_0(u) of u [..., d + 1] whose time is 0, at most 10 √k from the origin."""
        length = inner(u, u).clamp_min(SHORTEST).sqrt()
        r = (length / self.k.sqrt()).clamp_max(LONGEST)
        return self.lift((self.k.sqrt() * torch.sinh(r) * u / length)[..., 1:])


class LorentzFullyConnected(nn.Module):
    """W x + b, of which the first coordinate is replaced by the time. `scale` is of a normalisation that is not used, and is fixed."""

    def __init__(self, manifold: Hyperboloid, in_ambient: int, out_ambient: int):
        super().__init__()
        self.manifold = manifold
        self.weight = nn.Linear(in_ambient, out_ambient)
        self.scale = nn.Parameter(torch.tensor(2.3), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        return self.manifold.lift(self.weight(x)[..., 1:])


class LorentzConv2d(nn.Module):
    """`linearized_kernel` of [sqrt(Σ t² - (K - 1) k), spaces of the K positions of a window], zeros around the image raised to time √k."""

    def __init__(self, manifold: Hyperboloid, channels: int, features: int, size: int, stride: int = 1):
        super().__init__()
        self.manifold, self.size, self.stride = manifold, size, stride
        self.linearized_kernel = LorentzFullyConnected(manifold, channels * size * size + 1, features + 1)
        bound = (2 / (channels * size * size)) ** 0.5
        nn.init.uniform_(self.linearized_kernel.weight.weight, -bound, bound)
        nn.init.uniform_(self.linearized_kernel.weight.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Points [n, h, w, channels + 1] to points [n, i, j, features + 1]."""
        k, area, pad = self.manifold.k, self.size**2, self.size // 2
        height, width = ((n + 2 * pad - self.size) // self.stride + 1 for n in x.shape[1:3])
        parts = F.unfold(x.movedim(-1, 1), self.size, padding=pad, stride=self.stride).mT
        parts = parts.unflatten(-1, (-1, area)).transpose(-1, -2)  # [n, windows, positions, channels + 1]
        times = torch.clamp(parts[..., 0], min=k.sqrt())
        time = (times.pow(2).sum(-1, keepdim=True) - (area - 1) * k).sqrt()
        out = self.linearized_kernel(torch.cat([time, parts[..., 1:].flatten(-2)], -1))
        return out.unflatten(1, (height, width))


class LorentzBatchNorm(nn.Module):
    """exp_β(PT_{0→β}(gamma/(var + 1e-5) PT_{μ→0} log_μ x)) with the centroid μ of the centroids of the images and var = mean d(μ, x)."""

    def __init__(self, manifold: Hyperboloid, features: int, momentum: float = 0.1):
        super().__init__()
        self.manifold, self.momentum = manifold, momentum
        self.beta = geoopt.ManifoldParameter(manifold.origin(features + 1).detach(), manifold=manifold)  # pyright: ignore[reportCallIssue]
        self.gamma = nn.Parameter(torch.ones(1))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(features + 1))
        self.register_buffer("running_var", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Points [n, h, w, d + 1] to points."""
        space, shape, momentum = self.manifold, x.shape, self.momentum
        x = x.flatten(1, 2)
        mean = space.centroid(space.centroid(x)) if self.training else space.bounded_exp0(self.running_mean)
        u = space.transp0back(mean, space.logmap(mean, x))
        var = u.norm(dim=-1).mean() if self.training else self.running_var
        u = u * (self.gamma / (var + 1e-5))
        y = space.bounded_exp(self.beta, space.transp0(self.beta, u))
        if self.training:
            with torch.no_grad():
                both = torch.stack([space.bounded_exp0(self.running_mean), mean])
                self.running_mean.copy_(space.logmap0(space.centroid(both, both.new_tensor([1 - momentum, momentum]))))
                self.running_var.copy_((1 - momentum) * self.running_var + momentum * var)
        return y.reshape(shape)


class LorentzReLU(nn.Module):
    """ReLU of the space coordinates."""

    def __init__(self, manifold: Hyperboloid):
        super().__init__()
        self.manifold = manifold

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        return self.manifold.lift(torch.relu(x[..., 1:]))


class LorentzGlobalAvgPool2d(nn.Module):
    """The centroid of an image."""

    def __init__(self, manifold: Hyperboloid):
        super().__init__()
        self.manifold = manifold

    def forward(self, x: Tensor) -> Tensor:
        """Points [n, h, w, d + 1] to points [n, d + 1]."""
        return self.manifold.centroid(x.flatten(1, 2))


class LorentzMLR(nn.Module):
    """sign(alpha) beta √k |asinh(alpha/(√k beta))|, alpha = -w_t x_t + cosh(a/√k) <z, x_s>, w_t = sinh(a/√k)|z|, beta² = |w_s|² - w_t²."""

    def __init__(self, manifold: Hyperboloid, features: int, classes: int):
        super().__init__()
        self.manifold = manifold
        self.a, self.z = nn.Parameter(torch.empty(classes)), nn.Parameter(torch.empty(classes, features))
        for each in (self.z, self.a):
            nn.init.uniform_(each, -(features**-0.5), features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of points [n, d + 1]."""
        root = self.manifold.k.sqrt()
        time = torch.sinh(self.a / root) * self.z.norm(dim=-1)
        space = torch.cosh(self.a / root)[:, None] * self.z
        beta = (space.norm(dim=-1) ** 2 - time**2).sqrt()
        alpha = x[..., 1:] @ space.T - time * x[..., :1]
        return torch.sign(alpha) * beta * root * torch.asinh(alpha / (root * beta)).abs()


class UnidirectionalPoincareMLR(nn.Module):
    """2 g/√c asinh((2<√c x, v/|v|> cosh(2√c r) - (1 + c|x|²) sinh(2√c r))/(1 - c|x|²)) (Shimizu et al. 2021, equation 6)."""

    def __init__(self, ball: geoopt.PoincareBall, features: int, classes: int):
        super().__init__()
        self.ball = ball
        start = torch.randn(features, classes) * features**-0.5 / ball.c.detach().sqrt()
        self.weight_g, self.weight_v = nn.Parameter(start.norm(dim=0)), nn.Parameter(start.clone())
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of points [n, d] of the ball."""
        root = self.ball.c.sqrt()
        unit = self.weight_v / self.weight_v.norm(dim=0).clamp_min(1e-15)
        square, turn = (root * x).pow(2).sum(-1, keepdim=True), 2 * root * self.bias
        inside = 2 * (root * x) @ unit * turn.cosh() - (1 + square) * turn.sinh()
        return 2 * self.weight_g / root * torch.asinh(inside / (1 - square).clamp_min(1e-15))
