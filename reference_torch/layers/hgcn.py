"""HGCN's layers: linear maps, neighbourhood aggregation and activation, each on a space and a curvature of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.graphs.graph import Graph, segment_sum
from reference_torch.layers.hgcn_spaces import SPACES

Curvature = Tensor | nn.Parameter


class HypLinear(nn.Module):
    """exp_0(W log_0(x)) (+) exp_0(b) (HGCN, arXiv 1910.12933, eq. 7 and 8); in training connections of W are dropped.

    On the hyperboloid W and b are ambient: their time row and column have no effect. The bias is there even if unused.
    """

    def __init__(self, space: str, in_features: int, out_features: int, c: Curvature, dropout: float, use_bias: bool):
        super().__init__()
        self.space, self.c, self.dropout, self.use_bias = SPACES[space], c, dropout, use_bias
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.xavier_uniform_(self.weight, gain=2**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """exp_0(W log_0 x) ⊕ exp_0(b) of points x [N, in]."""
        weight = F.dropout(self.weight, self.dropout, training=self.training)
        z = self.space.exp0(self.space.log0(x, self.c) @ weight.T, self.c)
        return self.space.add(z, self.space.exp0(self.bias[None], self.c), self.c) if self.use_bias else z


class EdgeAttention(nn.Module):
    """sigmoid(w . [u_i, u_j] + b) for each edge j -> i, times the edge's weight; no softmax."""

    def __init__(self, features: int):
        super().__init__()
        self.linear = nn.Linear(2 * features, 1)

    def forward(self, u: Tensor, graph: Graph) -> Tensor:
        """Weights [E, 1] of the edges from tangents u [N, d] at the origin."""
        pair = torch.cat([u[graph.receivers], u[graph.senders]], -1)
        return torch.sigmoid(self.linear(pair)) * graph.weights[:, None]  # pyright: ignore[reportOptionalSubscript]


class HypAggregation(nn.Module):
    """Weighted sums of neighbours in the tangent space at the origin, or, locally, in the one at each receiver.

    On the ball the local form ends with exp_s(x) for the sum s of the tangents, base and tangent in this order, as HGCN's code has
    them; it is exp_x(s) on the hyperboloid, where that code stops with an error.
    """

    def __init__(self, space: str, features: int, c: Curvature, use_att: bool, local_agg: bool):
        super().__init__()
        self.space, self.c, self.local_agg = SPACES[space], c, local_agg
        self.att = EdgeAttention(features) if use_att else None

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Points x [N, d] to their neighbours' aggregates, on the same space."""
        space, c, i, j = self.space, self.c, graph.receivers, graph.senders
        u = space.log0(x, c)
        if self.att is None:
            return space.exp0(segment_sum(graph.weights[:, None] * u[j], i, len(x)), c)  # pyright: ignore[reportOptionalSubscript]
        weight = self.att(u, graph)
        if not self.local_agg:
            return space.exp0(segment_sum(weight * u[j], i, len(x)), c)
        total = segment_sum(weight * space.log(x[i], x[j], c), i, len(x))
        return space.exp(x, total, c) if space.time else space.exp(total, x, c)


class HypActivation(nn.Module):
    """exp_0(act(log_0(x))), from curvature c_in to c_out."""

    def __init__(self, space: str, c_in: Curvature, c_out: Curvature, act: Callable[[Tensor], Tensor]):
        super().__init__()
        self.space, self.c_in, self.c_out, self.act = SPACES[space], c_in, c_out, act

    def forward(self, x: Tensor) -> Tensor:
        """exp_0(act(log_0 x)): the logarithm at curvature c_in, the exponential at c_out."""
        return self.space.exp0(self.act(self.space.log0(x, self.c_in)), self.c_out)


class HypGraphConvolution(nn.Module):
    """HGCN's layer: linear, aggregation, activation."""

    def __init__(self, space: str, in_features: int, out_features: int, c_in: Curvature, c_out: Curvature, dropout: float,
                 act: Callable[[Tensor], Tensor], use_bias: bool, use_att: bool, local_agg: bool):  # fmt: skip
        super().__init__()
        self.linear = HypLinear(space, in_features, out_features, c_in, dropout, use_bias)
        self.agg = HypAggregation(space, out_features, c_in, use_att, local_agg)
        self.hyp_act = HypActivation(space, c_in, c_out, act)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Points x [N, in] at curvature c_in to points [N, out] at c_out."""
        return self.hyp_act(self.agg(self.linear(x), graph))


class HypLayer(nn.Module):
    """HNN's layer: linear, activation."""

    def __init__(self, space: str, in_features: int, out_features: int, c: Curvature, dropout: float,
                 act: Callable[[Tensor], Tensor], use_bias: bool):  # fmt: skip
        super().__init__()
        self.linear = HypLinear(space, in_features, out_features, c, dropout, use_bias)
        self.hyp_act = HypActivation(space, c, c, act)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Points x [N, in] to points [N, out]; the graph is not used."""
        return self.hyp_act(self.linear(x))
