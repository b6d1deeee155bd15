"""Hyperbolic neural network."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from port_jax.graphs import Graph
from port_jax.layers.hgcn import HgcnLayer, exp0
from port_jax.models.node_model import NodeModel

__all__ = ["HNN"]


class HNN(NodeModel):
    """HNN (arXiv 1805.09112) on PoincareBall, Hyperboloid or Euclidean: hyperbolic layers of one curvature. Edges are not used."""

    manifold: str = "PoincareBall"

    def layer(self, i: int) -> nn.Module:
        """A linear map and activation, without aggregation."""
        return HgcnLayer(self.dim, self.act or "none", self.bias, self.dropout, False)

    def run(self, x: Float[Array, "n in"], graph: Graph, deterministic: bool) -> Float[Array, "n dim"]:
        """The layers on tangent coordinates at the origin, then exp_0."""
        manifold = self._at(0)
        u = manifold.coordinates0(x)
        for layer in self.layers:
            u = layer(manifold, u, graph, deterministic)
        return exp0(manifold, u)
