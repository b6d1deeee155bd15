"""HyboNet for knowledge graphs (arXiv 2105.14686), with the authors' parameter names."""

from __future__ import annotations

import geoopt
import torch
from torch import Tensor, nn


class HyboNetKG(nn.Module):
    """Scores margin + 2 <f_r(h), t>_L + b_h + b_t on the unit hyperboloid.

    f_r(h): y = W_r h; time s sigmoid(y_0) + 1.1, space y_1.. + b_1.. rescaled so that the point lies on the
    hyperboloid. With `time_bias` y_0 + b_0 in place of y_0, as in the authors' code before February 2022.
    """

    def __init__(self, entities: int, relations: int, dim: int, *, max_scale=2.0, margin=6.0, time_bias=False):
        super().__init__()
        self.margin, self.time_bias, self.manifold = margin, time_bias, geoopt.Lorentz(1.0)
        start = self.manifold.expmap0(torch.cat([torch.zeros(entities, 1), torch.randn(entities, dim - 1) / dim**0.5], -1))
        self.emb_entity = geoopt.ManifoldParameter(start, manifold=self.manifold)  # pyright: ignore[reportCallIssue]
        self.relation_bias = nn.Parameter(torch.zeros(relations, dim))
        self.relation_transform = nn.Parameter(torch.randn(relations, dim, dim) / dim**0.5)
        self.scale = nn.Parameter(torch.tensor(float(max_scale)), requires_grad=False)
        self.bias_head, self.bias_tail = nn.Parameter(torch.zeros(entities)), nn.Parameter(torch.zeros(entities))

    def encode(self) -> Tensor:
        """The entities [n, d], points of the unit hyperboloid."""
        return self.emb_entity

    def forward(self, heads: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
        """Scores [B, n] of tails [B, n] for heads [B] and relations [B]."""
        y = torch.einsum("bi,boi->bo", self.emb_entity[heads], self.relation_transform[relations])
        shifted = y + self.relation_bias[relations]
        time = torch.sigmoid((shifted if self.time_bias else y)[:, :1]) * self.scale + 1.1
        space = shifted[:, 1:]
        space = space * (time**2 - 1).sqrt() / space.norm(dim=-1, keepdim=True)
        t = self.emb_entity[tails]
        inner = torch.einsum("bi,bni->bn", space, t[..., 1:]) - time * t[..., 0]
        return self.margin + 2 * inner + self.bias_head[heads][:, None] + self.bias_tail[tails]
