"""HypLL's manifold and layers (maxvanspengler/hyperbolic_learning_library), on plain tensors and from their formulas.

As there, an image has its channels on axis 1, every layer keeps the ball, and so the curvature's raw value is in a state_dict once for each
layer. Formulas are written for the last axis; layers of images move their channels there and back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import geoopt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.layers.convolution import log_beta
from reference_torch.layers.linear import unidirectional_poincare

TINY = 1e-15
MARGIN = {torch.float32: 4e-3}
SETTLED = {torch.float64: 1e-12}
CONSTRAINTS: dict[str, Callable[[Tensor], Tensor]] = {"softplus": F.softplus, "identity": lambda value: value, "exp": torch.exp}


def square(x: Tensor) -> Tensor:
    """|x|² over the last axis, kept."""
    return x.pow(2).sum(-1, keepdim=True)


def project(x: Tensor, c: Tensor) -> Tensor:
    """x, or on its ray the point at (1 - eps)/sqrt(c + 1e-15) if it is farther out; eps is 4e-3 in float32 and 1e-5 in float64."""
    most, length = (1 - MARGIN.get(x.dtype, 1e-5)) / (c + TINY).sqrt(), x.norm(dim=-1, keepdim=True).clamp_min(TINY)
    return torch.where(length > most, x / length * most, x)


def add(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """Moebius addition, whose denominator is at least 1e-15."""
    xy = (x * y).sum(-1, keepdim=True)
    top = (1 + 2 * c * xy + c * square(y)) * x + (1 - c * square(x)) * y
    return top / (1 + 2 * c * xy + c**2 * square(x) * square(y)).clamp_min(TINY)


def exp0(u: Tensor, c: Tensor) -> Tensor:
    """tanh(√c|u|) u/(√c|u|), projected."""
    length = u.norm(dim=-1, keepdim=True).clamp_min(TINY) * c.sqrt()
    return project(torch.tanh(length) * u / length, c)


def log0(x: Tensor, c: Tensor) -> Tensor:
    """artanh(√c|x|) x/(√c|x|)."""
    length = x.norm(dim=-1, keepdim=True).clamp_min(TINY) * c.sqrt()
    return torch.atanh(length) * x / length


def factor(x: Tensor, c: Tensor) -> Tensor:
    """lambda_x = 2/(1 - c|x|²)."""
    return 2 / (1 - c * square(x)).clamp_min(TINY)


def exp(x: Tensor, u: Tensor, c: Tensor) -> Tensor:
    """x ⊕ tanh(√c lambda_x|u|/2) u/(√c|u|), projected."""
    length = u.norm(dim=-1, keepdim=True).clamp_min(TINY)
    return project(add(x, torch.tanh(c.sqrt() * factor(x, c) * length / 2) * u / (c.sqrt() * length), c), c)


def log(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """2/(√c lambda_x) artanh(√c|w|) w/|w| with w = (-x) ⊕ y."""
    w = add(-x, y, c)
    length = w.norm(dim=-1, keepdim=True).clamp_min(TINY)
    return 2 / (c.sqrt() * factor(x, c)) * torch.atanh(c.sqrt() * length) * w / length


def transport(x: Tensor, y: Tensor, u: Tensor, c: Tensor) -> Tensor:
    """gyr[y, -x] u lambda_x/lambda_y, the gyration as u + 2 (a y - b x)/d."""
    dot = lambda a, b: (a * b).sum(-1, keepdim=True)  # noqa: E731
    v = -x
    a = -(c**2) * dot(y, u) * square(v) + c * dot(v, u) + 2 * c**2 * dot(y, v) * dot(v, u)
    b = -(c**2) * dot(v, u) * square(y) - c * dot(y, u)
    d = 1 + 2 * c * dot(y, v) + c**2 * square(y) * square(v)
    return (u + 2 * (a * y + b * v) / d.clamp_min(TINY)) * factor(x, c) / factor(y, c)


def dist(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """2/√c artanh(√c|(-x) ⊕ y|)."""
    return 2 / c.sqrt() * torch.atanh(c.sqrt() * add(-x, y, c).norm(dim=-1))


def fully_connected(x: Tensor, z: Tensor, r: Tensor | None, c: Tensor) -> Tensor:
    """w/(1 + sqrt(1 + c|w|²)), w = sinh(√c v)/√c with the signed distances v to hyperplanes; projected."""
    v = unidirectional_poincare(x, z, z.new_zeros(z.shape[1]) if r is None else r, c)
    w = torch.sinh(c.sqrt() * v) / c.sqrt()
    return project(w / (1 + (1 + c * square(w)).sqrt()), c)


def midpoint(x: Tensor, c: Tensor, w: Tensor | None = None) -> Tensor:
    """m/(1 + sqrt(1 - c|m|²)), m = Σ w lambda x/max(Σ w (lambda - 1), 1e-15), over the axis before the last."""
    lam, w = factor(x, c), x.new_ones(()) if w is None else w[..., None]
    m = (w * lam * x).sum(-2) / (w * (lam - 1)).sum(-2).clamp_min(TINY)
    return m / (1 + (1 - c * square(m)).sqrt())


def squared_distances(m: Tensor, x: Tensor, c: Tensor) -> Tensor:
    """Σ d(m, x_i)² = Σ 4/c arsinh(√t)², t = c|x_i - m|²/((1 - c|x_i|²)(1 - c|m|²)), smooth where they coincide."""
    t = c * (x - m).pow(2).sum(-1) / ((1 - c * x.pow(2).sum(-1)) * (1 - c * m.pow(2).sum(-1)))
    near = t < 1e-3
    far = torch.asinh(torch.where(near, torch.ones_like(t), t).sqrt()).pow(2)
    few = torch.where(near, t, torch.zeros_like(t))
    series = few * (1 - few / 3 * (1 - few * 8 / 15 * (1 - few * 9 / 14 * (1 - few * 32 / 45))))
    return (4 / c * torch.where(near, series, far)).sum()


class FrechetMean(torch.autograd.Function):
    """The minimum m of `squared_distances` over the axis before the last of x [..., n, d], with the implicit derivative.

    m ← eta b, b = Σ αx, eta = (s - sqrt(s² - 4c|b|²))/(2c|b|²), s = Σ α(1 + c|x|²), α = 2 arcosh(1 + 2t)/(sqrt(t² + t)(1 - c|x|²)), from
    the first point on, at most 1000 times; it ends when no set has changed by 1e-6 (float64: 1e-12), or none by that part of its length.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, c: Tensor) -> Tensor:
        m, xx = x[..., 0, :].clone(), x.pow(2).sum(-1)
        settled = SETTLED.get(x.dtype, 1e-6)
        for _ in range(1000):
            old = m
            t = c * (x - m[..., None, :]).pow(2).sum(-1) / ((1 - c * xx) * (1 - c * m.pow(2).sum(-1, keepdim=True)))
            small = t < 1e-12
            alpha = torch.where(small, 4.0, 2 * torch.acosh(1 + 2 * t) / torch.where(small, 1.0, t**2 + t).sqrt()) / (1 - c * xx)
            b, s = (alpha[..., None] * x).sum(-2), (alpha * (1 + c * xx)).sum(-1)
            bb = b.pow(2).sum(-1)
            eta = (s - (s**2 - 4 * c * bb).sqrt()) / (2 * c * bb).clamp_min(TINY)
            m = eta[..., None] * b
            moved = (m - old).norm(dim=-1)
            if bool((moved < settled).all()) or bool((moved / old.norm(dim=-1) < settled).all()):
                break
        ctx.save_for_backward(x, m, c)
        return m

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, m, c = ctx.saved_tensors
        sets, means = x.reshape(-1, *x.shape[-2:]), m.reshape(-1, m.shape[-1])
        slope = torch.func.vmap(torch.func.grad(squared_distances), in_dims=(0, 0, None))
        bend = torch.func.vmap(torch.func.hessian(squared_distances), in_dims=(0, 0, None))(means, sets, c)
        solved = torch.linalg.solve(bend, grad.reshape(means.shape)[..., None])[..., 0]
        with torch.enable_grad():
            points, number = sets.detach().requires_grad_(), c.detach().requires_grad_()
            total = -(slope(means, points, number) * solved).sum()
            by_points, by_number = torch.autograd.grad(total, (points, number))
        return by_points.reshape(x.shape), by_number


class Columns(nn.Parameter):
    """HypLL's parameter on its Euclidean manifold: each column is one point, whose numbers are on axis 0."""

    man_dim = 0


class Curvature(nn.Module):
    """c as a function of the parameter `value`, which is there even if it is not trained."""

    def __init__(self, value: float = 1.0, constraint: str = "softplus", requires_grad: bool = False):
        super().__init__()
        self.value, self.constraint = nn.Parameter(torch.tensor(value), requires_grad=requires_grad), constraint

    def forward(self) -> Tensor:
        """The curvature is minus this."""
        return CONSTRAINTS[self.constraint](self.value)


class PoincareBall(nn.Module):
    """The ball of curvature -c, with the means that layers ask for."""

    def __init__(self, c: Curvature):
        super().__init__()
        self.c = c

    def mean(self, x: Tensor, use_midpoint: bool) -> Tensor:
        """Of points [..., n, d] over n: the midpoint or the Fréchet mean."""
        return midpoint(x, self.c()) if use_midpoint else FrechetMean.apply(x, self.c())  # pyright: ignore[reportReturnType]

    def unfold(self, x: Tensor, size: int | tuple[int, int], padding: int, stride: int | tuple[int, int]) -> Tensor:
        """Points [b, channels, h, w] to [b, windows, channels positions], the channel first: exp_0 of what log_0, shortened, has there."""
        area = size * size if isinstance(size, int) else size[0] * size[1]
        n = x.shape[1]
        u = log0(x.movedim(1, -1), self.c()).movedim(-1, 1) * shortened(n * area, n)
        return exp0(F.unfold(u, size, padding=padding, stride=stride).movedim(1, -1), self.c())

    def cat(self, xs: list[Tensor]) -> Tensor:
        """Points [..., d_i] to [..., n], n = Σ d_i."""
        n = sum(x.shape[-1] for x in xs)
        return exp0(torch.cat([log0(x, self.c()) * shortened(n, x.shape[-1]) for x in xs], -1), self.c())


class ForOptimizers(geoopt.PoincareBall):
    """The same ball as geoopt's, which optimizers find on a parameter of points."""

    def __init__(self, curvature: Curvature):
        super().__init__()
        self.kept = [curvature]  # no module of this one, so that its value has no other name

    @property
    def c(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The curvature is minus this."""
        return self.kept[0]()


def shortened(whole: int, part: int) -> float:
    """B(whole/2, 1/2)/B(part/2, 1/2)."""
    return float(torch.exp(torch.tensor(log_beta(whole) - log_beta(part), dtype=torch.float64)))


def begun(inward: int, outward: int) -> Tensor:
    """HypLL's start of a kernel: half the identity, or normal numbers where the map is to fewer dimensions."""
    if inward <= outward:
        return 0.5 * torch.eye(inward, outward)
    return torch.randn(inward, outward) * (2 * inward * outward) ** -0.5


class HLinear(nn.Module):
    """Points [..., in] to [..., out]."""

    def __init__(self, in_features: int, out_features: int, manifold: PoincareBall, bias: bool = True):
        super().__init__()
        self.z = Columns(begun(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.manifold = manifold

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        return fully_connected(x, self.z, self.bias, self.manifold.c())


class HConvolution2d(nn.Module):
    """Points [b, in, h, w] to [b, out, i, j]: a linear map of the concatenation of each window."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, manifold: PoincareBall, bias: bool = True, stride: int = 1,
                 padding: int = 0):  # fmt: skip
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.weights = Columns(begun(kernel_size**2 * in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.manifold = manifold

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        height, width = ((n + 2 * self.padding - self.kernel_size) // self.stride + 1 for n in x.shape[2:])
        windows = self.manifold.unfold(x, self.kernel_size, self.padding, self.stride)
        return fully_connected(windows, self.weights, self.bias, self.manifold.c()).movedim(-1, 1).unflatten(-1, (height, width))


class HBatchNorm(nn.Module):
    """exp_β(sqrt(weight/(var + 1e-6)) PT_{μ→β} log_μ x), β = exp_0(bias), with mean and variance of the batch in evaluation as well."""

    def __init__(self, features: int, manifold: PoincareBall, use_midpoint: bool = False):
        super().__init__()
        self.bias, self.weight = nn.Parameter(torch.zeros(features)), nn.Parameter(torch.tensor(1.0))
        self.manifold, self.use_midpoint = manifold, use_midpoint

    def forward(self, x: Tensor) -> Tensor:
        """Points [n, d] to points."""
        c = self.manifold.c()
        goal, mean = exp0(self.bias, c), self.manifold.mean(x, self.use_midpoint)
        var = dist(x, mean, c).pow(2).mean()
        u = transport(mean.expand_as(x), goal.expand_as(x), log(mean.expand_as(x), x, c), c)
        return exp(goal.expand_as(x), (self.weight / (var + 1e-6)).sqrt() * u, c)


class HBatchNorm2d(nn.Module):
    """The same of all pixels of points [b, d, h, w]."""

    def __init__(self, features: int, manifold: PoincareBall, use_midpoint: bool = False):
        super().__init__()
        self.manifold, self.norm = manifold, HBatchNorm(features, manifold, use_midpoint)

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        rows = x.movedim(1, -1)
        return self.norm(rows.flatten(0, 2)).reshape(rows.shape).movedim(-1, 1)


class HReLU(nn.Module):
    """exp_0(relu(log_0 x)); the coordinates are on the last axis, or on axis 1 of images."""

    def __init__(self, manifold: PoincareBall):
        super().__init__()
        self.manifold = manifold

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        return exp0(torch.relu(log0(x.movedim(1, -1), self.manifold.c())), self.manifold.c()).movedim(-1, 1)


class HMaxPool2d(nn.Module):
    """exp_0 of the max pooling of log_0 x [b, d, h, w]."""

    def __init__(self, kernel_size: int, manifold: PoincareBall, stride: int | None = None, padding: int = 0):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride or kernel_size, padding
        self.manifold = manifold

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        u = log0(x.movedim(1, -1), self.manifold.c()).movedim(-1, 1)
        u = F.max_pool2d(u, self.kernel_size, self.stride, self.padding)
        return exp0(u.movedim(1, -1), self.manifold.c()).movedim(-1, 1)


class HAvgPool2d(nn.Module):
    """The mean of each window of [b, d, h, w], whose pixels are the parts of its concatenation. kernel_size None: the whole image."""

    def __init__(self, kernel_size: int | None, manifold: PoincareBall, stride: int | None = None, padding: int = 0,
                 use_midpoint: bool = False):  # fmt: skip
        super().__init__()
        self.kernel_size, self.stride, self.padding, self.use_midpoint = kernel_size, stride, padding, use_midpoint
        self.manifold = manifold

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        size = (self.kernel_size, self.kernel_size) if self.kernel_size else (x.shape[2], x.shape[3])
        stride = (self.stride, self.stride) if self.stride else size
        height, width = ((n + 2 * self.padding - k) // s + 1 for n, k, s in zip(x.shape[2:], size, stride, strict=True))
        windows = self.manifold.unfold(x, size, self.padding, stride)
        parts = windows.unflatten(-1, (x.shape[1], -1)).transpose(-1, -2)
        return self.manifold.mean(parts, self.use_midpoint).movedim(-1, 1).unflatten(-1, (height, width))


class HFlatten(nn.Module):
    """The beta concatenation of all pixels of [b, d, h, w], the channel first."""

    def __init__(self, manifold: PoincareBall):
        super().__init__()
        self.manifold = manifold

    def forward(self, x: Tensor) -> Tensor:
        """Points to points [b, d h w]."""
        c, n = self.manifold.c(), x.shape[1]
        u = log0(x.movedim(1, -1), c).movedim(-1, 1).flatten(1)
        return exp0(u * shortened(u.shape[1], n), c)


class HEmbedding(nn.Module):
    """A table of points `weight` [n, d], which starts as exp_0 of normal numbers."""

    def __init__(self, num_embeddings: int, embedding_dim: int, manifold: PoincareBall):
        super().__init__()
        start = exp0(torch.randn(num_embeddings, embedding_dim), manifold.c()).detach()
        self.weight = geoopt.ManifoldParameter(start, manifold=ForOptimizers(manifold.c))  # pyright: ignore[reportCallIssue]
        self.manifold = manifold

    def forward(self, indices: Tensor) -> Tensor:
        """Rows of the table."""
        return self.weight[indices]
