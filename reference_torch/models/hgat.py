"""Hyperbolic graph attention network on geoopt: the original that `port_jax.models.HGAT` translates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import geoopt
import torch
from torch import Tensor, nn

from reference_torch.graphs.graph import Graph
from reference_torch.layers.decoders import Hyperplanes, TangentLinear, fermi_dirac
from reference_torch.layers.hgat import BlanketAttention, OriginAttention
from reference_torch.layers.tangent import from_tangent0

MANIFOLDS = {"PoincareBall": geoopt.PoincareBall, "Lorentz": geoopt.Lorentz}


class HGAT(nn.Module):
    """Layers of hyperbolic attention, between manifolds 0..L, and a decoder.

    Layer i goes from `manifolds[i]` to `manifolds[i + 1]`. Hidden layers concatenate their heads, the last one averages them.
    With `num_nodes` the input is a table of points on `manifolds[0]` that is trained along; otherwise features, mapped by exp_0.
    `curvature` is c on the ball and k (a squared radius) on the hyperboloid: one number, or one for each of the L + 1 manifolds.
    """

    def __init__(self, in_features: int, features: Sequence[int] = (16, 16), heads: int = 4, *, preset: str = "htgn",
                 manifold: str = "PoincareBall", curvature: float | Sequence[float] = 1.0, learnable_curvature: bool = False,
                 activation: str = "relu", final_activation: str = "none", bias: bool = True, negative_slope: float = 0.2,
                 distance: bool = False, num_nodes: int | None = None, node_features: int = 0, edge_features: int = 0,
                 num_classes: int | None = None, classifier: str = "linear", r: float = 2.0, t: float = 1.0,
                 dropout: float = 0.0, attention_dropout: float = 0.0):  # fmt: skip
        super().__init__()
        depth = len(features)
        curvatures = [curvature] * (depth + 1) if isinstance(curvature, (int, float)) else list(curvature)
        self.manifolds = nn.ModuleList(MANIFOLDS[manifold](float(c), learnable=learnable_curvature) for c in curvatures)
        self.r, self.t, self.dropout, self.attention_dropout, self.heads = r, t, dropout, attention_dropout, heads
        self.embedding = None
        if num_nodes is not None:
            start = from_tangent0(self.manifolds[0], 1e-2 * torch.randn(num_nodes, in_features)).detach()
            self.embedding = geoopt.ManifoldParameter(start, manifold=self.manifolds[0])  # pyright: ignore[reportCallIssue]
        self.layers = nn.ModuleList()
        width = in_features
        for i, channels in enumerate(features):
            last = i == depth - 1
            shared = {"bias": bias, "activation": final_activation if last else activation, "negative_slope": negative_slope}
            if preset == "markov_blanket":
                self.layers.append(BlanketAttention(width, channels, heads, distance=distance, node_features=node_features,
                                                    edge_features=edge_features, **shared))  # fmt: skip
                width = channels
            else:
                self.layers.append(OriginAttention(preset, width, channels, heads, concat=not last, distance=distance, **shared))
                width = channels if last else heads * channels
        self.decoder = None
        if num_classes is not None:
            last_manifold = self.manifolds[-1]
            self.decoder = TangentLinear(width, num_classes) if classifier == "linear" else Hyperplanes(width, num_classes, last_manifold)

    def encode(self, x: Tensor | None, graph: Graph, node_features: Tensor | None = None, masks: Sequence[dict] | None = None) -> Tensor:
        """Points on the last manifold. `masks`: one dict per layer with any of "weight", "edge", "self"."""
        h: Any = self.embedding if x is None else from_tangent0(self.manifolds[0], x)
        for i, layer in enumerate(self.layers):
            layer_masks = masks[i] if masks is not None else self._draw_masks(layer, graph)
            h = layer(self.manifolds[i], self.manifolds[i + 1], h, graph, node_features, layer_masks)
        return h

    def forward(self, x: Tensor | None, graph: Graph, node_features: Tensor | None = None, masks: Sequence[dict] | None = None) -> Tensor:
        """Class logits where there is a classifier, else the embeddings."""
        h = self.encode(x, graph, node_features, masks)
        return h if self.decoder is None else self.classify(h)

    def classify(self, h: Tensor) -> Tensor:
        """Class logits of embeddings."""
        decoder: Any = self.decoder
        assert decoder is not None, "the model was made without num_classes"
        return decoder(self.manifolds[-1], h)

    def score(self, h: Tensor, pairs: Tensor) -> Tensor:
        """Fermi-Dirac probabilities of the links `pairs` [P, 2]."""
        last: Any = self.manifolds[-1]
        return fermi_dirac(last.dist2(h[pairs[:, 0]], h[pairs[:, 1]]), self.r, self.t)

    def _draw_masks(self, layer, graph: Graph) -> dict[str, Tensor]:
        masks = {}
        if self.training and self.dropout:
            masks["weight"] = nn.functional.dropout(torch.ones_like(layer.linear.weight), self.dropout)
        if self.training and self.attention_dropout:
            ones = layer.linear.weight.new_ones
            masks["edge"] = nn.functional.dropout(ones(len(graph.senders), self.heads), self.attention_dropout)
            masks["self"] = nn.functional.dropout(ones(graph.num_nodes, self.heads), self.attention_dropout)
        return masks
