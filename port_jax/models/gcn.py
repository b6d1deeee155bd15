"""Graph convolutional network."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from port_jax.layers.gcn import Dense
from port_jax.models.node_model import NodeModel

__all__ = ["GCN"]


class GCN(NodeModel):
    """GCN (arXiv 1609.02907) as in HGCN's code: the classifier is a convolution, too.

    The graph has to have the normalised adjacency as weights (`Graph.normalized`).
    """

    def layer(self, i: int) -> nn.Module:
        """A dense layer followed by the product with the adjacency."""
        return Dense(self.dim, self.act or "none", self.bias, self.dropout, convolve=True)

    def classifier(self) -> nn.Module:
        """A convolution without activation."""
        return Dense(self.n_classes or 0, "none", self.bias, self.dropout, convolve=True)

    def read(self, h: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
        """h, which is flat."""
        return h
