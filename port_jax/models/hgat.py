"""Hyperbolic graph attention network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from port_jax.checks import as_features, as_indices, as_numbers, require_choice
from port_jax.graphs import Graph
from port_jax.initializers import normal
from port_jax.layers.activations import ACTIVATIONS
from port_jax.layers.decoders import Hyperplanes, TangentLinear, fermi_dirac
from port_jax.layers.hgat import BlanketAttention, Masks, OriginAttention
from port_jax.layers.learnable_curvature import KINDS, Curved, manifold_of
from port_jax.manifolds import Euclidean, Manifold
from port_jax.primitives import rows_at
from port_jax.types import ManifoldTree, Params

__all__ = ["CLASSIFIERS", "HGAT", "PRESETS"]

PRESETS = ("hat", "htgn", "gil", "markov_blanket")
CLASSIFIERS = ("linear", "hyperplanes")


class HGAT(nn.Module):
    """Layers of hyperbolic attention between manifolds 0..L, and decoders for classes and links.

    Layer i goes from manifold i to manifold i + 1. Hidden layers concatenate their heads, the last one averages them (the preset
    `markov_blanket` averages everywhere). With `num_nodes` the input is a table of points on manifold 0 that is trained too;
    otherwise it is features, which are mapped there by exp_0. `curvature` is c on the ball and k, a squared radius, on the hyperboloid: one
    number, or one for each of the L + 1 manifolds. The fields are those of `reference_torch.models.hgat.HGAT`.
    """

    in_features: int
    features: Sequence[int] = (16, 16)
    heads: int = 4
    preset: str = "htgn"
    manifold: str = "PoincareBall"
    curvature: float | Sequence[float] = 1.0
    learnable_curvature: bool = False
    activation: str = "relu"
    final_activation: str = "none"
    bias: bool = True
    negative_slope: float = 0.2
    distance: bool = False
    num_nodes: int | None = None
    node_features: int = 0
    edge_features: int = 0
    num_classes: int | None = None
    classifier: str = "linear"
    r: float = 2.0
    t: float = 1.0
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        require_choice("preset", self.preset, PRESETS)
        require_choice("manifold", self.manifold, tuple(KINDS))
        require_choice("classifier", self.classifier, CLASSIFIERS)
        require_choice("activation", self.activation, tuple(ACTIVATIONS))
        require_choice("final_activation", self.final_activation, tuple(ACTIVATIONS))
        object.__setattr__(self, "features", tuple(self.features))
        depth = len(self.features) + 1
        given = self.curvature
        curvature = (float(given),) * depth if isinstance(given, (int, float)) else tuple(float(c) for c in given)
        if len(curvature) != depth or min(curvature) <= 0:
            raise ValueError(f"curvature: found {given}; give one positive number, or {depth}, one for each manifold 0..{depth - 1}")
        object.__setattr__(self, "curvature", curvature)
        super().__post_init__()

    def setup(self) -> None:
        assert isinstance(self.curvature, tuple)
        for l, c in enumerate(self.curvature):
            setattr(self, f"manifolds_{l}", Curved(self.manifold, c, self.learnable_curvature))
        last = len(self.features) - 1
        shared: dict[str, Any] = {"heads": self.heads, "use_bias": self.bias, "negative_slope": self.negative_slope,
                                  "distance": self.distance, "dropout": self.dropout,
                                  "attention_dropout": self.attention_dropout}  # fmt: skip
        layers = []
        for i, channels in enumerate(self.features):
            activation = self.final_activation if i == last else self.activation
            if self.preset == "markov_blanket":
                layers.append(BlanketAttention(channels, activation=activation, **shared))
            else:
                layers.append(OriginAttention(self.preset, channels, activation=activation, concat=i != last, **shared))
        self.layers = layers
        if self.num_classes is None:
            self.decoder = None
        else:
            self.decoder = (TangentLinear if self.classifier == "linear" else Hyperplanes)(self.num_classes)
        if self.num_nodes is not None:
            ball = self._at(0)
            width = ball.from_coordinates0(jnp.zeros(self.in_features)).shape[0]
            self.embedding = self.param("embedding", normal(ball), (self.num_nodes, width))

    def encode(self, x: Float[Array, "n in"] | None, graph: Graph, node_features: Float[Array, "n f"] | None = None,
               masks: Sequence[Masks] | None = None, deterministic: bool = True) -> Float[Array, "n ambient"]:  # fmt: skip
        """Points on the last manifold.

        `masks` has one dict per layer with any of the factors "weight" [in, out], "edge" [E, H] (in the graph's edge order) and
        "self" [N, H]; without it they are drawn from the stream "dropout" unless `deterministic`.
        """
        x, node_features = self._checked(x, graph, node_features)
        manifolds = [self._at(l) for l in range(len(self.features) + 1)]
        # from layer to layer in tangent spaces at the origin: log_0 undoes exp_0
        u = manifolds[0].to_tangent0(self.embedding) if x is None else x
        for i, layer in enumerate(self.layers):
            given = None if masks is None else masks[i]
            u = u if x is None and i == 0 else manifolds[i].within_reach(u)
            u = layer.of_tangents(manifolds[i], u, graph, node_features, given, deterministic)
        return manifolds[-1].from_tangent0(u)

    def __call__(self, x: Float[Array, "n in"] | None, graph: Graph, node_features: Float[Array, "n f"] | None = None,
                 masks: Sequence[Masks] | None = None, deterministic: bool = True) -> Float[Array, "n out"]:  # fmt: skip
        """Class logits if the model has a classifier, else the embeddings."""
        h = self.encode(x, graph, node_features, masks, deterministic)
        return h if self.decoder is None else self.classify(h)

    def classify(self, h: Float[Array, "n ambient"]) -> Float[Array, "n classes"]:
        """Class logits of embeddings."""
        if self.decoder is None:
            raise ValueError("the model has no classifier: found num_classes=None; construct it with num_classes")
        return self.decoder(self._at(len(self.features)), as_numbers("h", h))

    def score(self, h: Float[Array, "n ambient"], pairs: Int[Array, "p 2"]) -> Float[Array, " p"]:
        """Fermi-Dirac probability of each link (i, j): 1 / (exp((d(h_i, h_j)^2 - r) / t) + 1)."""
        h, pairs = as_numbers("h", h), as_indices("pairs", pairs)
        return fermi_dirac(self._at(len(self.features)).dist2(rows_at(h, pairs[:, 0]), rows_at(h, pairs[:, 1])), self.r, self.t)

    def manifolds(self, params: Params) -> ManifoldTree:
        """The prefix tree of manifolds over `params` for the Riemannian optimizers: points on their manifold, everything else Euclidean."""
        tree: dict[str, ManifoldTree] = {name: Euclidean() for name in params}
        if "embedding" in params:
            tree["embedding"] = self.manifold_at(0, params)
        if "points" in params.get("decoder", {}):
            tree["decoder"] = {"points": self.manifold_at(-1, params).ball}
        return tree

    def manifold_at(self, l: int, params: Params) -> Manifold:
        """Manifold l (0..L, or -1 for the last, where the embeddings lie) at these parameters."""
        l = range(len(self.features) + 1)[l]
        assert isinstance(self.curvature, tuple)
        return manifold_of(self.manifold, self.curvature[l], params.get(f"manifolds_{l}"))

    def _at(self, l: int) -> Manifold:
        return getattr(self, f"manifolds_{l}")()

    def _checked(self, x: Any, graph: Graph, node_features: Any) -> tuple[Float[Array, "n in"] | None, Float[Array, "n f"] | None]:
        if self.num_nodes is None:
            x = as_features("x", x, (graph.num_nodes, self.in_features))
        elif x is not None or graph.num_nodes != self.num_nodes:
            raise ValueError(f"x: the model trains its own {self.num_nodes} points; pass None, and a graph of as many nodes "
                             f"(found {graph.num_nodes})")  # fmt: skip
        if self.preset == "markov_blanket":
            given = None if graph.edge_features is None else graph.edge_features.shape[-1]
            if (given or 0) != self.edge_features:
                raise ValueError(f"graph.edge_features: found width {given}, the model has edge_features={self.edge_features}")
            if self.node_features:
                node_features = as_features("node_features", node_features, (graph.num_nodes, self.node_features))
        return x, node_features
