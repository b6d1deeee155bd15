"""Fully hyperbolic graph network."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float, Int

from port_jax.checks import as_features, as_indices, as_numbers, require_choice
from port_jax.graphs import Graph
from port_jax.layers.activations import ACTIVATIONS
from port_jax.layers.hybonet import LorentzDecoder, LorentzGraphConvolution, flip, lifted
from port_jax.manifolds import Euclidean, Lorentz
from port_jax.primitives import rows_at
from port_jax.types import ManifoldTree, Params

__all__ = ["HyboNet"]


class HyboNet(nn.Module):
    """HyboNet (arXiv 2105.14686) for graphs, on the hyperboloid of curvature -1. The settings have the names of its code.

    Task nc has num_layers - 1 encoder layers and a classifier, lp has num_layers layers. `feat_dim` is one more than the width of
    the features, which are lifted to the hyperboloid. The activation acts on the ambient coordinates, from layer 1 on. The graph has
    to have the normalised adjacency with self loops as weights (`Graph.normalized`).
    """

    feat_dim: int
    dim: int = 16
    num_layers: int = 2
    task: str = "nc"
    n_classes: int | None = None
    act: str | None = None
    bias: bool = True
    use_att: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_choice("task", self.task, ("nc", "lp"))
        require_choice("act", self.act or "none", tuple(ACTIVATIONS))
        if self.depth < 0 or (self.task == "nc" and not self.n_classes):
            raise ValueError(
                f"num_layers={self.num_layers}, n_classes={self.n_classes}: nc takes num_layers >= 1 and n_classes >= 1, lp num_layers >= 0"
            )
        super().__post_init__()

    @property
    def depth(self) -> int:
        """The number of encoder layers."""
        return self.num_layers if self.task == "lp" else self.num_layers - 1

    def setup(self) -> None:
        act = self.act or "none"
        self.layers = [
            LorentzGraphConvolution(self.dim, bool(self.bias), self.dropout, bool(self.use_att), act if i else None)
            for i in range(self.depth)
        ]
        self.decoder = LorentzDecoder(self.n_classes or 0, bool(self.bias)) if self.task == "nc" else None

    def encode(self, x: Float[Array, "n in"], graph: Graph, deterministic: bool = True) -> Float[Array, "n dim"]:
        """Points of the hyperboloid. Unless `deterministic`, inputs of the linear maps are dropped by the stream "dropout"."""
        given = lifted(as_features("x", x, (graph.num_nodes, self.feat_dim - 1)))
        if not self.layers:
            return given.points()
        h = self.layers[0](given, graph, deterministic)
        for layer in self.layers[1:]:
            h = layer(h, graph, deterministic)
        return h

    def __call__(self, x: Float[Array, "n in"], graph: Graph, deterministic: bool = True) -> Float[Array, "n out"]:
        """Class logits for nc, embeddings for lp."""
        h = self.encode(x, graph, deterministic)
        return h if self.decoder is None else self.decoder(h)

    def score(self, h: Float[Array, "n dim"], pairs: Int[Array, "p 2"]) -> Float[Array, " p"]:
        """2 + 2 <h_i, h_j>: minus the squared Lorentzian distance of each pair."""
        h, pairs = as_numbers("h", h), as_indices("pairs", pairs)
        return 2 + 2 * (flip(rows_at(h, pairs[:, 0])) * rows_at(h, pairs[:, 1])).sum(-1)

    def manifolds(self, params: Params) -> ManifoldTree:
        """The prefix tree of manifolds over `params`: the classes' points on the hyperboloid, everything else Euclidean."""
        tree: dict[str, ManifoldTree] = {name: Euclidean() for name in params}
        if "decoder" in params:
            tree["decoder"] = {name: Lorentz(1.0) if name == "cls" else Euclidean() for name in params["decoder"]}
        return tree
