"""Multi-layer perceptron."""

from __future__ import annotations

import flax.linen as nn

from port_jax.layers.gcn import Dense
from port_jax.models.node_model import NodeModel

__all__ = ["MLP"]


class MLP(NodeModel):
    """Dense layers on the features, a baseline of HGCN's code. Edges are not used."""

    def layer(self, i: int) -> nn.Module:
        """A dense layer."""
        return Dense(self.dim, self.act or "none", self.bias, self.dropout)
