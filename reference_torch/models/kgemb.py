"""RotH, RefH and AttH: hyperbolic knowledge graph embeddings (arXiv 2005.00545), with the parameter names of KGEmb."""

from __future__ import annotations

import geoopt.manifolds.stereographic.math as gmath
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.layers.learnable_curvature import Ball


def _planes(r: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """cos and sin of each plane's angle, from r / |r|, and the two coordinates of x there; all [B, d / 2]."""
    r = F.normalize(r.unflatten(-1, (-1, 2)), dim=-1, eps=1e-15)
    x = x.unflatten(-1, (-1, 2))
    return r[..., 0], r[..., 1], x[..., 0], x[..., 1]


def rotate(r: Tensor, x: Tensor) -> Tensor:
    """Givens rotations of the coordinate planes (0, 1), (2, 3), ..."""
    cos, sin, a, b = _planes(r, x)
    return torch.stack([cos * a - sin * b, cos * b + sin * a], -1).flatten(-2)


def reflect(r: Tensor, x: Tensor) -> Tensor:
    """Givens reflections of the same planes."""
    cos, sin, a, b = _planes(r, x)
    return torch.stack([cos * a + sin * b, sin * a - cos * b], -1).flatten(-2)


class KGEmb(nn.Module):
    """Scores -d_c(query(h, r), exp_0 t)^2 with a bias; c = softplus(`c`), one or one per relation. All tables are
    tangents at the origin.

    `bias`: learn (b_h + b_t), constant (gamma) or none.
    """

    def __init__(self, kind: str, entities: int, relations: int, rank: int, *, bias="learn", multi_c=True, gamma=0.0):
        super().__init__()
        self.kind, self.bias = kind, bias
        self.gamma = nn.Parameter(torch.tensor([float(gamma)]), requires_grad=False)
        self.c = nn.Parameter(torch.ones(relations if multi_c else 1, 1))
        self.entity, self.rel = nn.Embedding(entities, rank), nn.Embedding(relations, 2 * rank)
        self.bh, self.bt = nn.Embedding(entities, 1), nn.Embedding(entities, 1)
        self.rel_diag = nn.Embedding(relations, 2 * rank if kind == "AttH" else rank)
        if kind == "AttH":
            self.context_vec = nn.Embedding(relations, rank)
            self.scale = float(torch.tensor(rank**-0.5, dtype=torch.float32))  # rounded in double precision, too

    def encode(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Points [B, rank] of the queries (head, relation) and their curvatures [B, 1]."""
        head, relation = self.entity(queries[:, 0]), queries[:, 1]
        c = F.softplus(self.c[relation if len(self.c) > 1 else torch.zeros_like(relation)])
        ball, diagonal = Ball(c), self.rel_diag(relation)
        first, second = self.rel(relation).chunk(2, -1)
        if self.kind == "RotH":
            moved = rotate(diagonal, ball.mobius_add(ball.expmap0(head), ball.expmap0(first)))
            return gmath.mobius_add(moved, ball.expmap0(second), k=-c), c  # the original does not project here
        if self.kind == "RefH":
            turned = reflect(diagonal, head)
        else:
            rotation, reflection = diagonal.chunk(2, -1)
            pair = torch.stack([reflect(reflection, head), rotate(rotation, head)], 1)
            weights = (self.context_vec(relation)[:, None] * pair).sum(-1, keepdim=True) * self.scale
            turned = (torch.softmax(weights, 1) * pair).sum(1)
        return ball.mobius_add(ball.expmap0(turned), ball.expmap0(first)), c

    def forward(self, triples: Tensor) -> Tensor:
        """Scores [B] of triples (head, relation, tail)."""
        point, c = self.encode(triples)
        far = Ball(c).dist(point, Ball(c).expmap0(self.entity(triples[:, 2])))
        return -(far**2) + self._offset(self.bh(triples[:, 0])[:, 0], self.bt(triples[:, 2])[:, 0])

    def score_tails(self, queries: Tensor) -> Tensor:
        """Scores [B, N] of every entity as the tail of each query."""
        point, c = self.encode(queries)
        ball = Ball(c[:, None])
        far = ball.dist(point[:, None], ball.expmap0(self.entity.weight))
        return -(far**2) + self._offset(self.bh(queries[:, 0]), self.bt.weight.T)

    def _offset(self, head: Tensor, tail: Tensor) -> Tensor | float:
        return {"learn": head + tail, "constant": self.gamma}.get(self.bias, 0.0)
