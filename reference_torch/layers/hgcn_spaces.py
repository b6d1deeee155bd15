"""The three spaces of HGCN's code base: the ball, the hyperboloid and flat space, each with curvature -c given at every call.

They differ from geoopt's: curvature is a tensor of shape [1] that may be trained as it is, the conformal factor passes no
gradient to the point, and the hyperboloid keeps arguments of arcosh above 1 by an eps of the dtype. Tangent vectors at
the hyperboloid's origin are ambient, with a time part that is ignored. Sources: HGCN (arXiv 1910.12933, section 3 and appendix), and HNN
(arXiv 1805.09112) for the ball.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TINY = 1e-15


def norm(x: Tensor) -> Tensor:
    """|x| over the last axis, kept, at least TINY."""
    return x.norm(dim=-1, keepdim=True).clamp_min(TINY)


class _Artanh(torch.autograd.Function):
    """artanh evaluated in float64; the derivative 1 / (1 - x^2) in the dtype of x."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        x = x.clamp(TINY - 1, 1 - TINY)
        ctx.save_for_backward(x)
        return torch.atanh(x.double()).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return grad / (1 - x * x)


class _Arcosh(torch.autograd.Function):
    """arcosh evaluated in float64; the derivative 1 / sqrt(x^2 - 1) in the dtype of x."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        return torch.acosh(x.double()).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return grad / (x * x - 1).sqrt()


def artanh(x: Tensor) -> Tensor:
    """artanh with the gradient of HGCN's code, computed in float64."""
    return _Artanh.apply(x)  # pyright: ignore[reportReturnType]


def arcosh(x: Tensor) -> Tensor:
    """arcosh with the gradient of HGCN's code, computed in float64."""
    return _Arcosh.apply(x)  # pyright: ignore[reportReturnType]


class Flat:
    """R^d; c has no effect."""

    time = False

    def exp0(self, u: Tensor, c: Tensor) -> Tensor:
        """u."""
        return u

    def log0(self, x: Tensor, c: Tensor) -> Tensor:
        """x."""
        return x

    def add(self, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """x + y."""
        return x + y

    def log(self, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """y - x."""
        return y - x

    def exp(self, x: Tensor, u: Tensor, c: Tensor) -> Tensor:
        """x + u."""
        return x + u

    def sqdist(self, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """Between rows shortened to length 1 where they are longer."""
        x, y = (p.renorm(2, 0, 1.0) for p in (x, y))
        return (x - y).pow(2).sum(-1)


class Ball:
    """{|x|^2 < 1 / c}; every map ends with the projection to radius (1 - eps) / sqrt(c)."""

    time = False
    eps = {torch.float32: 4e-3, torch.float64: 1e-5}  # noqa: RUF012

    def project(self, x: Tensor, c: Tensor) -> Tensor:
        """x, at most (1 - eps) / sqrt(c) long."""
        radius, edge = norm(x), (1 - self.eps[x.dtype]) / c.sqrt()
        return torch.where(radius > edge, x / radius * edge, x)

    def factor(self, x: Tensor, c: Tensor) -> Tensor:
        """2 / (1 - c |x|^2), a constant in x."""
        return 2 / (1 - c * x.detach().pow(2).sum(-1, keepdim=True)).clamp_min(TINY)

    def exp0(self, u: Tensor, c: Tensor) -> Tensor:
        """tanh(sqrt(c) |u|) u / (sqrt(c) |u|)."""
        s = c.sqrt() * norm(u)
        return self.project(torch.tanh(s.clamp_max(15)) / s * u, c)

    def log0(self, x: Tensor, c: Tensor) -> Tensor:
        """artanh(sqrt(c) |x|) x / (sqrt(c) |x|)."""
        s = c.sqrt() * norm(x)
        return artanh(s) / s * x

    def add(self, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """x ⊕ y."""
        return self.project(self._add(x, y, c), c)

    def _add(self, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        xx, yy, xy = ((a * b).sum(-1, keepdim=True) for a, b in ((x, x), (y, y), (x, y)))
        above = (1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y
        return above / (1 + 2 * c * xy + c * c * xx * yy).clamp_min(TINY)

    def log(self, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """log_x(y)."""
        gap = self._add(-x, y, c)
        s = c.sqrt() * norm(gap)
        return 2 / self.factor(x, c) * artanh(s) / s * gap

    def exp(self, x: Tensor, u: Tensor, c: Tensor) -> Tensor:
        """exp_x(u)."""
        s = c.sqrt() * norm(u)
        step = torch.tanh((s * self.factor(x, c) / 2).clamp_max(15)) / s * u
        return self.project(self._add(x, step, c), c)

    def sqdist(self, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """The squared distance [...] of x and y [..., d]."""
        gap = self._add(-x, y, c).norm(dim=-1)
        return (2 / c.sqrt() * artanh(c.sqrt() * gap)) ** 2


class Hyperboloid:
    """{<x, x> = -1 / c, x_0 > 0} with <x, y> = -x_0 y_0 + x_1 y_1 + ...; every map ends by recomputing x_0."""

    time = True
    eps = {torch.float32: 1e-7, torch.float64: 1e-15}  # noqa: RUF012

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        """<x, y>, [..., 1]."""
        return (x[..., 1:] * y[..., 1:]).sum(-1, keepdim=True) - x[..., :1] * y[..., :1]

    def project(self, x: Tensor, c: Tensor) -> Tensor:
        """x with the x_0 that its other coordinates imply."""
        space = x[..., 1:]
        return torch.cat([(1 / c + space.pow(2).sum(-1, keepdim=True)).sqrt(), space], -1)

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """u with the time part that makes it tangent at x."""
        time = (x[..., 1:] * u[..., 1:]).sum(-1, keepdim=True) / x[..., :1]
        return torch.cat([time, u[..., 1:]], -1)

    def exp0(self, u: Tensor, c: Tensor) -> Tensor:
        """exp_0(u); u_0 is not read."""
        space = u[..., 1:]
        s = c.sqrt() * norm(space)
        return self.project(F.pad(torch.sinh(s.clamp_max(15)) / s * space, (1, 0)), c)

    def log0(self, x: Tensor, c: Tensor) -> Tensor:
        """log_0(x), whose time part is 0."""
        theta = (x[..., :1] * c.sqrt()).clamp_min(1 + self.eps[x.dtype])
        return F.pad(arcosh(theta) / c.sqrt() * x[..., 1:] / norm(x[..., 1:]), (1, 0))

    def add(self, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """exp_x of log_0(y) transported from the origin to x."""
        u, space = self.log0(y, c), x[..., 1:]
        unit = space / norm(space)
        along = (unit * u[..., 1:]).sum(-1, keepdim=True) * c.sqrt()
        u = u[..., 1:] + along * (x[..., :1] - 1 / c.sqrt()) * unit
        return self.exp(x, self.tangent(x, F.pad(u, (1, 0))), c)

    def log(self, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """log_x(y)."""
        overlap = (self.inner(x, y) + 1 / c).clamp_max(-self.eps[x.dtype]) - 1 / c
        u = y + overlap * c * x
        length = self.inner(u, u).clamp_min(self.eps[x.dtype]).sqrt()
        return self.tangent(x, self.sqdist(x, y, c, keepdim=True).sqrt() * u / length)

    def exp(self, x: Tensor, u: Tensor, c: Tensor) -> Tensor:
        """exp_x(u)."""
        s = c.sqrt() * self.inner(u, u).clamp_min(self.eps[x.dtype]).sqrt()
        wide = s.clamp_max(15)
        return self.project(torch.cosh(wide) * x + torch.sinh(wide) / s * u, c)

    def sqdist(self, x: Tensor, y: Tensor, c: Tensor, keepdim: bool = False) -> Tensor:
        """At most 50, so that Fermi-Dirac probabilities stay above 0."""
        theta = (-self.inner(x, y) * c).clamp_min(1 + self.eps[x.dtype])
        square = (arcosh(theta).pow(2) / c).clamp_max(50)
        return square if keepdim else square.squeeze(-1)


SPACES = {"PoincareBall": Ball(), "Hyperboloid": Hyperboloid(), "Euclidean": Flat()}
