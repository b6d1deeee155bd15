"""Shallow embeddings: a table of points, and layers on top of it."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.graphs import Graph
from port_jax.layers.gcn import Dense
from port_jax.layers.hgcn import exp0
from port_jax.manifolds import Euclidean, Manifold, trig
from port_jax.models.node_model import FARTHEST, NodeModel
from port_jax.types import ManifoldTree, Params

__all__ = ["Shallow"]


class Shallow(NodeModel):
    """A table `lt` [n_nodes, width] of points, joined with the features if `use_feats`, as in HGCN's code.

    A trained table is the whole encoder and has width `dim`. A pretrained one has width `pretrained`, is not changed, and is
    followed by dense layers.
    """

    n_nodes: int = 0
    use_feats: bool = True
    pretrained: int | None = None

    def __post_init__(self) -> None:
        if self.n_nodes < 1:
            raise ValueError(f"n_nodes: found {self.n_nodes}; give the number of rows of the table")
        super().__post_init__()

    @property
    def depth(self) -> int:
        """The number of dense layers after the table: 0 if the table is trained."""
        return 0 if self.pretrained is None else super().depth

    def setup(self) -> None:
        super().setup()

        def start(key: Any, shape: tuple[int, int]) -> Float[Array, "n d"]:
            wide = self.manifold == "Hyperboloid"
            tangent = jax.random.uniform(key, (shape[0], shape[1] - wide), minval=-1e-5, maxval=1e-5)
            return exp0(self._at(-1), tangent)

        self.lt = self.param("lt", start, (self.n_nodes, self.pretrained or self.dim))

    def layer(self, i: int) -> nn.Module:
        """A dense layer."""
        return Dense(self.dim, self.act or "none", self.bias, self.dropout)

    def run(self, x: Float[Array, "n in"], graph: Graph, deterministic: bool) -> Float[Array, "n out"]:
        """The table, joined with the features if `use_feats`, passed through the layers."""
        h = self.lt if self.pretrained is None else jax.lax.stop_gradient(self.lt)
        return super().run(jnp.concatenate([h, x], 1) if self.use_feats else h, graph, deterministic)

    def square(self, manifold: Manifold, a: Float[Array, "p d"], b: Float[Array, "p d"]) -> Float[Array, " p"]:
        """(4 / c) arsinh^2(sqrt(z)), where z is c |a - b|^2 / ((1 - c |a|^2)(1 - c |b|^2)) on the ball and (-c <a, b> - 1) / 2 else.

        Tables joined with features lie outside the ball and off the hyperboloid, where HGCN's code uses the formulas of points all the
        same. The distance of a point inside and a point outside the ball is infinite, and 0 on the hyperboloid where z is below 0.
        """
        if not self.use_feats or manifold.flat:
            return super().square(manifold, a, b)
        c = -jnp.asarray(manifold.curvature, a.dtype)
        if self.manifold == "Hyperboloid":
            z = (c * (a[:, 0] * b[:, 0] - (a[:, 1:] * b[:, 1:]).sum(-1)) - 1) / 2
            z = jnp.where(z > 0, z, 0)
            return jnp.minimum(4 / c * z * trig.arsin_ratio(-z) ** 2, FARTHEST)
        far, left, right = (c * (v * v).sum(-1) for v in (a - b, a, b))
        between = (1 - left) * (1 - right)
        z = jnp.where(between > 0, far / jnp.where(between > 0, between, 1), 0)
        return jnp.where(between > 0, 4 / c * z * trig.arsin_ratio(-z) ** 2, jnp.inf)

    def manifolds(self, params: Params) -> ManifoldTree:
        """The table on its manifold, with the exponential map as in HGCN's optimizer; everything else Euclidean."""
        manifold = self.manifold_at(-1, params)
        tree: dict[str, ManifoldTree] = {name: Euclidean() for name in params}
        return {**tree, "lt": manifold.with_exact_retraction()}
