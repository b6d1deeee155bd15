"""Shallow embeddings on torch: the original that `port_jax.models.Shallow` translates."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from reference_torch.layers.gcn import Dense
from reference_torch.models.node_model import NodeModel


class Shallow(NodeModel):
    """A table of points `encoder.lt` [n_nodes, width], with the features beside it if `use_feats`.

    Trained, the table is the whole encoder. Pretrained (`pretrained` gives its width), it stays as it is, and dense layers follow.
    Own settings: `n_nodes`, `use_feats`, `pretrained`.
    """

    def build(self, widths: list[int]) -> list[nn.Module]:
        width, given = self.own.get("pretrained") or self.dim, bool(self.own.get("pretrained"))
        self.encoder.lt = nn.Parameter(1e-5 * torch.randn(self.own["n_nodes"], width), requires_grad=not given)
        if not given:
            return []
        widths = [width + (widths[0] if self.own.get("use_feats") else 0), *widths[1:]]
        return [Dense(a, b, self.dropout, self.act, self.bias) for a, b in pairwise(widths)]

    def start(self, x: Tensor) -> Tensor:
        return torch.cat([self.encoder.lt, x], 1) if self.own.get("use_feats") else self.encoder.lt  # pyright: ignore[reportReturnType, reportArgumentType, reportCallIssue]
