"""Euclidean layers of HGCN's code base: dense, graph convolution, graph attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.graphs.graph import Graph, segment_softmax, segment_sum


class Dense(nn.Module):
    """act(dropout(W x + b))."""

    def __init__(self, in_features: int, out_features: int, dropout: float, act: Callable[[Tensor], Tensor], bias: bool):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias)
        self.dropout, self.act = dropout, act

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """x [N, in] to [N, out]; the graph is not used."""
        return self.act(F.dropout(self.linear(x), self.dropout, training=self.training))


class GraphConvolution(Dense):
    """act(A dropout(W x + b)) with the graph's weights as A (GCN, arXiv 1609.02907)."""

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """x [N, in] to [N, out], on a graph with weights."""
        h = F.dropout(self.linear(x), self.dropout, training=self.training)
        return self.act(segment_sum(graph.weights[:, None] * h[graph.senders], graph.receivers, len(x)))  # pyright: ignore[reportOptionalSubscript]


class AttentionHead(nn.Module):
    """act(sum_j alpha_ij h_j), h = x W, alpha_ij = softmax_j(-LeakyReLU(a . [h_i, h_j])) over the edges j -> i."""

    def __init__(self, in_features: int, out_features: int, dropout: float, slope: float, act: Callable[[Tensor], Tensor]):
        super().__init__()
        self.W = nn.Parameter(torch.empty(in_features, out_features))
        self.a = nn.Parameter(torch.empty(1, 2 * out_features))
        self.dropout, self.slope, self.act = dropout, slope, act
        nn.init.xavier_normal_(self.W, gain=1.414)
        nn.init.xavier_normal_(self.a, gain=1.414)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """x [N, in] to [N, out]."""
        h = x @ self.W
        i, j = graph.receivers, graph.senders
        score = F.leaky_relu((torch.cat([h[i], h[j]], -1) * self.a).sum(-1), self.slope)
        alpha = F.dropout(segment_softmax(-score, i, len(x)), self.dropout, training=self.training)
        return self.act(segment_sum(alpha[:, None] * h[j], i, len(x)))


class GraphAttention(nn.Module):
    """Heads side by side (GAT, arXiv 1710.10903, with the sign of the scores as in HGCN's code); dropout before and after."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        dropout: float,
        act: Callable[[Tensor], Tensor],
        slope: float,
        heads: int,
    ):
        super().__init__()
        self.dropout, self.heads = dropout, heads
        for k in range(heads):
            self.add_module(f"attention_{k}", AttentionHead(in_features, out_features, dropout, slope, act))

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """x [N, in] to the heads' outputs side by side, [N, heads * out]."""
        x = F.dropout(x, self.dropout, training=self.training)
        h = torch.cat([self.get_submodule(f"attention_{k}")(x, graph) for k in range(self.heads)], -1)
        return F.dropout(h, self.dropout, training=self.training)
