"""Graph attention network."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from port_jax.layers.gcn import GraphAttention
from port_jax.models.node_model import NodeModel

__all__ = ["GAT"]


class GAT(NodeModel):
    """GAT (arXiv 1710.10903) as in HGCN's code: the heads share `dim` among them, and the classifier is one head with ELU.

    `alpha` is the slope of LeakyReLU. Each edge of the graph counts once, self loops included; weights are not used.
    """

    n_heads: int = 4
    alpha: float = 0.2

    def __post_init__(self) -> None:
        if self.n_heads < 1 or self.dim % self.n_heads:
            raise ValueError(f"n_heads: found {self.n_heads}; give a divisor of dim={self.dim}")
        super().__post_init__()

    def layer(self, i: int) -> nn.Module:
        """Attention with `n_heads` heads of width dim / n_heads, joined."""
        return GraphAttention(self.dim // self.n_heads, self.n_heads, self.act or "none", self.alpha, self.dropout)

    def classifier(self) -> nn.Module:
        """Attention with one head."""
        return GraphAttention(self.n_classes or 0, 1, "elu", self.alpha, self.dropout)

    def read(self, h: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
        """h, which is flat."""
        return h
