"""MuRP: multi-relational Poincare graph embeddings, and Euclidean MuRE (arXiv 1905.09791), with the authors'
parameter names."""

from __future__ import annotations

import geoopt
import torch
from torch import Tensor, nn

from reference_torch.layers.learnable_curvature import Ball


class MuRP(nn.Module):
    """Scores -d(exp_0(R_r log_0 h_s), h_o (+) r)^2 + b_s + b_o on the unit ball; R_r a diagonal, `Wu`."""

    def __init__(self, entities: int, relations: int, dim: int):
        super().__init__()
        self.Wu = nn.Parameter(torch.rand(relations, dim) * 2 - 1)
        self.bs, self.bo = nn.Parameter(torch.zeros(entities)), nn.Parameter(torch.zeros(entities))
        self.Eh, self.rvh = nn.Embedding(entities, dim, padding_idx=0), nn.Embedding(relations, dim, padding_idx=0)
        for table in (self.Eh, self.rvh):
            start = 1e-2 * torch.randn(table.weight.shape)
            table.weight = geoopt.ManifoldParameter(start, manifold=geoopt.PoincareBallExact())  # pyright: ignore[reportCallIssue]

    def encode(self) -> Tensor:
        """The entities [n, d], points of the unit ball."""
        return self.Eh.weight

    def forward(self, subjects: Tensor, relations: Tensor, objects: Tensor) -> Tensor:
        """Scores [B] of triples: -d(exp_0(R log_0 h_s), h_o ⊕ r)^2 + b_s + b_o."""
        ball = Ball(self.Wu.new_ones(()))
        moved = ball.expmap0(self.Wu[relations] * ball.logmap0(self.Eh.weight[subjects]))
        target = ball.mobius_add(self.Eh.weight[objects], self.rvh.weight[relations])
        return -ball.dist2(moved, target) + self.bs[subjects] + self.bo[objects]


class MuRE(nn.Module):
    """Scores -|R_r h_s - (h_o + r)|^2 + b_s + b_o."""

    def __init__(self, entities: int, relations: int, dim: int):
        super().__init__()
        self.Wu = nn.Parameter(torch.rand(relations, dim) * 2 - 1)
        self.bs, self.bo = nn.Parameter(torch.zeros(entities)), nn.Parameter(torch.zeros(entities))
        self.E, self.rv = nn.Embedding(entities, dim, padding_idx=0), nn.Embedding(relations, dim, padding_idx=0)

    def encode(self) -> Tensor:
        """The entities [n, d]."""
        return self.E.weight

    def forward(self, subjects: Tensor, relations: Tensor, objects: Tensor) -> Tensor:
        """Scores [B] of triples: -|R e_s - e_o - r|^2 + b_s + b_o."""
        moved = self.Wu[relations] * self.E.weight[subjects]
        far = (moved - self.E.weight[objects] - self.rv.weight[relations]).pow(2).sum(-1)
        return -far + self.bs[subjects] + self.bo[objects]
