"""Hypformer's layers (Graph-and-Geometric-Learning/hyperbolic-transformer), from their formulas, with its names of parameters and bounds.

Every module keeps its manifold, so that k is in a state_dict once for each.
"""

from __future__ import annotations

import math
from typing import Any

import geoopt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.graphs.graph import Graph, segment_sum
from reference_torch.layers.hcnn import Hyperboloid
from reference_torch.layers.hybonet import inner

SHORTEST, LEAK, LONGEST, SMALL = 1e-9, 1e-8, 10.0, 1e-6


def bounded_root(square: Tensor) -> Tensor:
    """The root of a square that counts as 1e-9 below that; there 1e-8 of the gradient passes."""
    return (square.clamp_min(SHORTEST) + (square < SHORTEST) * LEAK * (square - square.detach())).sqrt()


class Space(Hyperboloid):
    """geoopt's hyperboloid with the maps of Hypformer. What optimizers use is geoopt's."""

    def exp_of(self, u: Tensor) -> Tensor:
        """The space part √k sinh(r) u_s/n, r = min(n, 10)/√k, with Minkowski's length n of u, time included; the time follows."""
        length = bounded_root(inner(u, u))
        r = length.clamp_max(LONGEST) / self.k.sqrt()
        return self.lifted(self.k.sqrt() * torch.sinh(r) * (u / length)[..., 1:])

    def lifted(self, space: Tensor) -> Tensor:
        """The point with these space coordinates."""
        return torch.cat([(space.pow(2).sum(-1, keepdim=True) + self.k).sqrt(), space], -1)

    def log_of(self, x: Tensor) -> Tensor:
        """The space part √k arcosh(x_t/√k) x_s/|x_s|."""
        z = (x[..., :1] / self.k.sqrt()).double()
        far = torch.log(z + (z * z - 1).clamp_min(1e-15).sqrt()).to(x.dtype)
        return self.k.sqrt() * far * x[..., 1:] / bounded_root(x[..., 1:].pow(2).sum(-1, keepdim=True))


class HypLinear(nn.Module):
    """W x + b as space coordinates. What stands in the place of the bias's switch may be a manifold, which nothing uses."""

    def __init__(self, manifold: Space, in_features: int, out_features: int, bias: Any = True):
        super().__init__()
        self.bias = bias
        self.manifold = manifold
        self.linear = nn.Linear(in_features + 1, out_features)
        nn.init.xavier_uniform_(self.linear.weight, gain=math.sqrt(2))
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, flat: bool = False) -> Tensor:
        """Points to points. Flat features get a 1 for their time, and are lifted."""
        if flat:
            x = self.manifold.exp_of(torch.cat([torch.ones_like(x[..., :1]), x], -1))
        return self.manifold.lifted(self.linear(x))


class HypLayerNorm(nn.Module):
    """LayerNorm of the space coordinates."""

    def __init__(self, manifold: Space, features: int):
        super().__init__()
        self.manifold = manifold
        self.layer = nn.LayerNorm(features)

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        return self.manifold.lifted(self.layer(x[..., 1:]))


class HypActivation(nn.Module):
    """ReLU of the space coordinates."""

    def __init__(self, manifold: Space):
        super().__init__()
        self.manifold = manifold

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        return self.manifold.lifted(torch.relu(x[..., 1:]))


class HypDropout(nn.Module):
    """Dropout of the space coordinates."""

    def __init__(self, manifold: Space, rate: float):
        super().__init__()
        self.manifold, self.dropout = manifold, nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        """Points to points, the same in evaluation."""
        return self.manifold.lifted(self.dropout(x[..., 1:])) if self.training else x


class TransConvLayer(nn.Module):
    """Attention of all nodes to all nodes, linear or full. offset: added to |norm_scale|; over_k: whether products are divided by k.

    `scale` and `bias` have no gradient in linear attention, `norm_scale`, `v_map_mlp` and `final_linear` have none in full attention.
    """

    def __init__(self, manifold: Space, width: int, heads: int, *, use_weight: bool, concat: bool, kind: str, power: float, offset: float,
                 over_k: bool, joined: bool):  # fmt: skip
        super().__init__()
        self.manifold, self.heads, self.kind, self.power, self.offset, self.over_k = manifold, heads, kind, power, offset, over_k
        self.Wk = nn.ModuleList(HypLinear(manifold, width, width) for _ in range(heads))
        self.Wq = nn.ModuleList(HypLinear(manifold, width, width) for _ in range(heads))
        self.Wv = nn.ModuleList(HypLinear(manifold, width, width) for _ in range(heads)) if use_weight else None
        self.scale = nn.Parameter(torch.tensor([math.sqrt(width)]))
        self.bias = nn.Parameter(torch.zeros(()))
        self.norm_scale = nn.Parameter(torch.ones(()))
        self.v_map_mlp = nn.Linear(width, width)
        self.final_linear = nn.Linear(width * heads, width) if joined else None
        self.concat = concat

    def forward(self, x: Tensor) -> Tensor:
        """Points [n, d + 1] to points."""
        query, key = (torch.stack([linear(x) for linear in linears], 1) for linears in (self.Wq, self.Wk))
        value = torch.stack([x] * self.heads if self.Wv is None else [linear(x) for linear in self.Wv], 1)
        return self.full(query, key, value) if self.kind == "full" else self.linear(query, key, value)

    def full(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Centroids by softmax((2 + 2⟨q, p⟩/k)/scale + bias), and the centroid of the heads."""
        product = torch.einsum("nhc,mhc->hnm", torch.cat([-query[..., :1], query[..., 1:]], -1), key)
        product = product / self.manifold.k if self.over_k else product
        alpha = torch.softmax((2 + 2 * product) / self.scale + self.bias, -1)
        return self.manifold.centroid(self.manifold.centroid(value.transpose(0, 1), alpha).transpose(0, 1))

    def focus(self, x: Tensor) -> Tensor:
        """|f| f^p/|f^p|, f = (relu(x_s) + 1e-6)/(|norm_scale| + offset)."""
        f = (torch.relu(x[..., 1:]) + SMALL) / (self.norm_scale.abs() + self.offset)
        return f.norm(dim=-1, keepdim=True) / (f**self.power).norm(dim=-1, keepdim=True) * f**self.power

    def linear(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """φ(Q)(φ(K)ᵀ V)/(φ(Q) Σ φ(K) + 1e-6) + A V + a, of all heads one mean or one linear map."""
        query, key, value = self.focus(query), self.focus(key), value[..., 1:]
        numerator = torch.einsum("nhm,hmd->nhd", query, torch.einsum("nhm,nhd->hmd", key, value))
        total = torch.einsum("nhm,hm->nh", query, key.sum(0)).unsqueeze(-1)
        out = numerator / (total + SMALL) + self.v_map_mlp(value)
        if self.concat and self.final_linear is not None:
            return self.manifold.lifted(self.final_linear(out.flatten(1)))
        return self.manifold.lifted(out.mean(1))


class HypCLS(nn.Module):
    """2k + 2⟨x, c⟩/k - bias for the point c of each class, or with `bounded` -max(-2k - 2⟨x, c⟩ + bias, 0)."""

    def __init__(self, manifold: Space, width: int, classes: int, *, bounded: bool):
        super().__init__()
        self.manifold, self.bounded = manifold, bounded
        u = torch.randn(classes, width + 1)
        start = manifold.exp_of(u / u.norm(dim=-1, keepdim=True)).detach()
        self.cls = geoopt.ManifoldParameter(start, manifold=manifold)  # pyright: ignore[reportCallIssue]
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        """Points to logits."""
        product, k = torch.cat([-x[..., :1], x[..., 1:]], -1) @ self.cls.mT, self.manifold.k
        square = -2 * k - 2 * (product if self.bounded else product / k) + self.bias
        return -(square.clamp_min(0) if self.bounded else square)


class GraphConvLayer(nn.Module):
    """A x with 1/sqrt(d_i d_j) of in-degrees d, then W of it, or of it and the first state."""

    def __init__(self, width: int, use_weight: bool, use_init: bool):
        super().__init__()
        self.use_weight, self.use_init = use_weight, use_init
        self.W = nn.Linear(2 * width if use_init else width, width)

    def forward(self, x: Tensor, graph: Graph, first: Tensor) -> Tensor:
        """States [n, d] to states."""
        degree = torch.bincount(graph.receivers, minlength=len(x)).to(x.dtype)
        weights = ((1 / degree[graph.receivers]).sqrt() * (1 / degree[graph.senders]).sqrt()).nan_to_num(0, 0, 0)
        x = segment_sum(weights[:, None] * x[graph.senders], graph.receivers, len(x))
        if self.use_init:
            return self.W(torch.cat([x, first], 1))
        return self.W(x) if self.use_weight else x


class GraphConv(nn.Module):
    """Flat layers over the edges; each adds the first state."""

    def __init__(self, in_features: int, width: int, layers: int, *, dropout: float, use_bn: bool, use_residual: bool, use_weight: bool,
                 use_init: bool, use_act: bool):  # fmt: skip
        super().__init__()
        self.dropout, self.use_bn, self.use_residual, self.use_act = dropout, use_bn, use_residual, use_act
        self.convs = nn.ModuleList(GraphConvLayer(width, use_weight, use_init) for _ in range(layers))
        self.fcs = nn.ModuleList([nn.Linear(in_features, width)])
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(layers + 1))

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Features [n, in] to states."""

        def normed(h: Tensor, layer: int, act: bool) -> Tensor:
            h = self.bns[layer](h) if self.use_bn else h
            return F.dropout(torch.relu(h) if act else h, self.dropout, self.training)

        first = h = normed(self.fcs[0](x), 0, True)
        for layer, conv in enumerate(self.convs):
            h = normed(conv(h, graph, first), layer + 1, self.use_act)
            h = h + first if self.use_residual else h
        return h
