"""HELM's layers on the hyperboloid <x, x> = -c (arXiv 2505.24722), from their formulas, with HyperCore's names of parameters and bounds.

A point has its time first. Every module keeps its manifold and the manifold's c beside it, so that one number is in a state_dict under
many keys.
"""

from __future__ import annotations

import math

import geoopt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.layers.hybonet import inner

HIDDEN = -1e18
"""What stands for the logit of a pair that attention does not see."""


class Hyperboloid(geoopt.Lorentz):
    """geoopt's hyperboloid, whose k has a second name."""

    def __init__(self, c: float = 1.0):
        super().__init__(c)
        self.c = self.k

    def lift(self, space: Tensor, least: float = 0.0) -> Tensor:
        """The point with these space coordinates; the square of its time is at least `least`."""
        return torch.cat([(space.pow(2).sum(-1, keepdim=True) + self.c).clamp_min(least).sqrt(), space], -1)

    def onto(self, a: Tensor, least: float) -> Tensor:
        """√c a/|a|, with |<a, a>| at least `least`."""
        return self.c.sqrt() * a / inner(a, a).abs().clamp_min(least).sqrt()


class LorentzLinear(nn.Module):
    """lift(W x + b) of the whole x; `manifold_out` is where the point is then scaled to."""

    def __init__(self, manifold: Hyperboloid, in_ambient: int, features: int, manifold_out: Hyperboloid | None = None):
        super().__init__()
        self.manifold, self.c = manifold, manifold.c
        if manifold_out is not None:
            self.manifold_out = manifold_out
        self.linear = nn.Linear(in_ambient, features)
        nn.init.xavier_uniform_(self.linear.weight, gain=2**0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        y = self.manifold.lift(self.linear(x), 1e-8)
        return y * (self.manifold_out.c / self.c).sqrt() if hasattr(self, "manifold_out") else y


class LorentzRMSNorm(nn.Module):
    """lift(w x_s/sqrt(mean x_s² + eps))."""

    def __init__(self, manifold: Hyperboloid, features: int, eps: float = 1e-8):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(features)), eps
        self.manifold_in, self.c = manifold, manifold.c

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        space = x[..., 1:]
        return self.manifold_in.lift(self.weight * space * (space.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt(), self.eps)


class LResNet(nn.Module):
    """√c a/|a| with a = x + w_y y. With `scale` the point with that many times its space coordinates."""

    def __init__(self, manifold: Hyperboloid, scale: float):
        super().__init__()
        self.w_y, self.scale = nn.Parameter(torch.ones(())), scale
        self.c, self.manifold = manifold.c, manifold

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two points to one."""
        return self.manifold.lift(self.scale * self.manifold.onto(x + y * self.w_y, 1e-4)[..., 1:], 1e-4)


class UnusedResNet(nn.Module):
    """The sum with positions that HELM-D keeps and does not use: it has rotations instead."""

    def __init__(self, manifold: Hyperboloid):
        super().__init__()
        self.w_y, self.scale = nn.Parameter(torch.ones(())), nn.Parameter(torch.tensor(4.0))
        self.c, self.manifold = manifold.c, manifold


class LorentzEmbeddings(nn.Module):
    """A table of points, scaled from one hyperboloid to another."""

    def __init__(self, manifold_in: Hyperboloid, count: int, ambient: int, manifold_out: Hyperboloid):
        super().__init__()
        self.manifold_in, self.manifold_out = manifold_in, manifold_out
        self.add_pos = UnusedResNet(manifold_in)
        directions = F.normalize(torch.randn(count, ambient), dim=-1)
        self.embedding = geoopt.ManifoldParameter(manifold_in.expmap0(directions).detach(), manifold=manifold_in)  # pyright: ignore[reportCallIssue]

    def forward(self, tokens: Tensor) -> Tensor:
        """The points of token ids."""
        if tokens.max() >= len(self.embedding) or tokens.min() < 0:
            raise IndexError(f"a token id is not between 0 and {len(self.embedding) - 1}")
        return self.embedding[tokens] * (self.manifold_out.c / self.manifold_in.c).sqrt()


def rotations(length: int, features: int) -> Tensor:
    """exp(i m θ_j), θ_j = 10000^(-2j/features), of positions m < length [length, features/2], in complex64."""
    theta = 1.0 / 10000.0 ** (torch.arange(0, features, 2).float() / features)
    angles = torch.outer(torch.arange(length), theta).float()
    return torch.polar(torch.ones_like(angles), angles)


def rotated(x: Tensor, by: Tensor) -> Tensor:
    """Pairs of neighbouring numbers of x [B, L, H, e] as complex numbers, times those of each position.

    The authors' code turns x into float32 for that. Here it keeps its type, if that is wider.
    """
    wide = x.double() if x.dtype == torch.float64 else x.float()
    turned = torch.view_as_complex(wide.unflatten(-1, (-1, 2)).contiguous()) * by[:, None]
    return torch.view_as_real(turned).flatten(-2).type_as(x)


class LorentzAttention(nn.Module):
    """Softmax of (2c + 2<q, k>)/scale + bias, centroids of the values, heads joined with their times, and a linear map."""

    def __init__(self, manifold: Hyperboloid, ambient: int, heads: int):
        super().__init__()
        self.manifold, self.heads, wide = manifold, heads, heads * ambient
        self.scale, self.bias = nn.Parameter(torch.tensor([math.sqrt(wide)])), nn.Parameter(torch.zeros(()))
        self.Wk, self.Wq, self.Wv = (nn.Linear(wide, heads * (ambient - 1)) for _ in range(3))
        self.final_linear = nn.Linear(wide, wide - 1)

    def forward(self, x: Tensor, by: Tensor, mask: Tensor) -> Tensor:
        """Points [B, L, W] to points; `mask` [L, L] is True where nothing is seen."""
        query, key, value = (part(x).unflatten(-1, (self.heads, -1)) for part in (self.Wq, self.Wk, self.Wv))
        query, key = rotated(query, by), rotated(key, by)
        query, key, value = (self.manifold.lift(part).transpose(1, 2) for part in (query, key, value))
        products = query[..., 1:] @ key[..., 1:].mT - query[..., :1] @ key[..., :1].mT
        logits = (2 * self.manifold.c + 2 * products) / self.scale + self.bias
        alpha = torch.softmax(logits.masked_fill(mask, HIDDEN), -1)
        joined = self.manifold.onto(alpha @ value, 1e-6).transpose(1, 2).flatten(-2)
        return self.manifold.lift(self.final_linear(joined))


class LorentzFeedForward(nn.Module):
    """w2 of the point with the space coordinates silu(w1 x) * w3 x."""

    def __init__(self, manifold: Hyperboloid, ambient: int, hidden: int):
        super().__init__()
        self.manifold, self.c = manifold, manifold.c
        self.w1, self.w2 = LorentzLinear(manifold, ambient, hidden - 1), LorentzLinear(manifold, hidden, ambient - 1)
        self.w3 = LorentzLinear(manifold, ambient, hidden - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        return self.w2(self.manifold.lift(F.silu(self.w1.linear(x)) * self.w3.linear(x), 1e-6))
