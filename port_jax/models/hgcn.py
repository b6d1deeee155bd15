"""Hyperbolic graph convolutional network."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from port_jax.graphs import Graph
from port_jax.layers.hgcn import HgcnLayer, exp0
from port_jax.models.node_model import NodeModel

__all__ = ["HGCN"]


class HGCN(NodeModel):
    """HGCN (arXiv 1910.12933) on PoincareBall, Hyperboloid or Euclidean.

    Layer i goes from curvature i to i + 1. `use_att` weighs edges by attention; with it `local_agg` sums in the tangent space
    of each receiver. The graph has to have the normalised adjacency with self loops as weights
    (`Graph.normalized`).
    """

    manifold: str = "PoincareBall"
    use_att: bool = False
    local_agg: bool = False

    @property
    def curvatures(self) -> int:
        """One before each layer and one after the last."""
        return self.depth + 1

    def layer(self, i: int) -> nn.Module:
        """A linear map, aggregation and activation."""
        return HgcnLayer(self.dim, self.act or "none", self.bias, self.dropout, True, bool(self.use_att), bool(self.local_agg))

    def run(self, x: Float[Array, "n in"], graph: Graph, deterministic: bool) -> Float[Array, "n dim"]:
        """The layers on tangent coordinates at the origin, then exp_0 at the last curvature."""
        manifolds = [self._at(l) for l in range(self.curvatures)]
        u = manifolds[0].coordinates0(x)
        for i, layer in enumerate(self.layers):
            u = layer(manifolds[i], u, graph, deterministic)
        return exp0(manifolds[-1], u)
