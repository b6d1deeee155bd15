"""HyboNet's layers on the hyperboloid <x, x> = -1: linear maps and centroids without tangent spaces (arXiv 2105.14686)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from geoopt import Lorentz, ManifoldParameter
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.graphs.graph import Graph, segment_sum


def inner(x: Tensor, y: Tensor) -> Tensor:
    """<x, y> = -x_0 y_0 + x_1 y_1 + ..., last axis kept."""
    return (x[..., 1:] * y[..., 1:]).sum(-1, keepdim=True) - x[..., :1] * y[..., :1]


def lift(x: Tensor) -> Tensor:
    """exp_0 of (0, x) with |x| cut at 10."""
    length = x.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    space = torch.sinh(length.clamp_max(10)) * x / length
    return torch.cat([(1 + space.pow(2).sum(-1, keepdim=True)).sqrt(), space], -1)


class LorentzLinear(nn.Module):
    """y = W dropout(act(x)) + b; time t = sigmoid(y_0) exp(scale) + 1.1, space y_1.. at length sqrt(t^2 - 1)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dropout: float = 0.1,
                 act: Callable[[Tensor], Tensor] | None = None):  # fmt: skip
        super().__init__()
        self.manifold = Lorentz(1.0)
        self.act, self.dropout = act, nn.Dropout(dropout)
        self.weight = nn.Linear(in_features, out_features, bias=bias)
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        nn.init.uniform_(self.weight.weight, -(out_features**-0.5), out_features**-0.5)
        nn.init.zeros_(self.weight.weight[:, 0].detach())
        if bias:
            nn.init.zeros_(self.weight.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Points x [N, in] to points [N, out] of the unit hyperboloid."""
        y = self.weight(self.dropout(x if self.act is None else self.act(x)))
        time = torch.sigmoid(y[..., :1]) * self.scale.exp() + 1.1
        space = y[..., 1:]
        square = space.pow(2).sum(-1, keepdim=True).clamp_min(1e-8)
        return torch.cat([time, space * ((time * time - 1) / square).sqrt()], -1)


class LorentzAggregation(nn.Module):
    """The Lorentz centroid s / sqrt(|<s, s>|) of s = sum_j w_ij x_j.

    With attention w_ij has the factor sigmoid((2 + 2 <q_i, k_j>) / scale + bias).
    """

    def __init__(self, features: int, use_att: bool):
        super().__init__()
        self.manifold = Lorentz(1.0)
        self.use_att = use_att
        if use_att:
            self.key_linear = LorentzLinear(features, features)
            self.query_linear = LorentzLinear(features, features)
            self.bias = nn.Parameter(torch.tensor(20.0))
            self.scale = nn.Parameter(torch.tensor(math.sqrt(features)))

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """The Lorentzian centroids of the neighbours of points x [N, d]."""
        weight = graph.weights[:, None]  # pyright: ignore[reportOptionalSubscript]
        if self.use_att:
            query, key = self.query_linear(x), self.key_linear(x)
            overlap = inner(query[graph.receivers], key[graph.senders])
            weight = weight * torch.sigmoid((2 + 2 * overlap) / self.scale + self.bias)
        s = segment_sum(weight * x[graph.senders], graph.receivers, len(x))
        return s / inner(s, s).abs().clamp_min(1e-8).sqrt()


class LorentzGraphConvolution(nn.Module):
    """HyboNet's layer: linear, aggregation."""

    def __init__(self, in_features: int, out_features: int, bias: bool, dropout: float, use_att: bool,
                 act: Callable[[Tensor], Tensor] | None):  # fmt: skip
        super().__init__()
        self.linear = LorentzLinear(in_features, out_features, bias, dropout, act)
        self.agg = LorentzAggregation(out_features, use_att)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Points x [N, in] to points [N, out] of the unit hyperboloid."""
        return self.agg(self.linear(x), graph)


class LorentzDecoder(nn.Module):
    """Logits 2 + 2 <h, cls_k> + bias_k: minus the squared Lorentzian distance to each class's point, shifted."""

    def __init__(self, features: int, n_classes: int, bias: bool):
        super().__init__()
        self.manifold = Lorentz(1.0)
        start = lift(F.normalize(torch.randn(n_classes, features - 1), dim=-1))
        self.cls = ManifoldParameter(start, manifold=self.manifold)  # pyright: ignore[reportCallIssue]
        self.bias = nn.Parameter(torch.zeros(n_classes)) if bias else None

    def forward(self, h: Tensor) -> Tensor:
        """Logits [N, classes] of points h [N, d]."""
        flipped = torch.cat([-self.cls[:, :1], self.cls[:, 1:]], -1)
        logits = 2 + 2 * h @ flipped.T
        return logits if self.bias is None else logits + self.bias
