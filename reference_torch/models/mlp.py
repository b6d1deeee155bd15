"""Multi-layer perceptron on torch: the original that `port_jax.models.MLP` translates."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from reference_torch.layers.gcn import Dense
from reference_torch.models.node_model import NodeModel


class MLP(NodeModel):
    """Dense layers on the features; edges play no part."""

    def build(self, widths: list[int]) -> list[nn.Module]:
        """A dense layer between each two widths."""
        return [Dense(a, b, self.dropout, self.act, self.bias) for a, b in pairwise(widths)]
