"""Hypformer (Graph-and-Geometric-Learning/hyperbolic-transformer, commit 768fcec) in its three variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reference_torch.graphs.graph import Graph
from reference_torch.layers.hypformer import GraphConv, HypActivation, HypCLS, HypDropout, HypLayerNorm, HypLinear, Space, TransConvLayer

DEFAULTS: dict[str, Any] = {
    "use_graph": 1, "graph_weight": 0.5, "gnn_use_bn": 1, "gnn_use_residual": 1, "gnn_use_weight": 0, "gnn_use_init": 0, "gnn_use_act": 1,
    "gnn_num_layers": 2, "gnn_dropout": 0.5, "trans_num_heads": 1, "trans_heads_concat": 0, "trans_use_weight": 1, "trans_use_bn": 0,
    "trans_use_residual": 0, "trans_use_act": 0, "trans_num_layers": 1, "trans_dropout": 0.0, "k_in": 1.0, "k_out": 1.0, "power_k": 2.0,
    "attention_type": "linear_focused", "add_positional_encoding": 1, "decoder_type": "euc",
}  # fmt: skip


class TransConv(nn.Module):
    """The transformer. Midpoints are on the hyperboloid of k_in in the variant medium, else on that of the states."""

    def __init__(self, spaces: tuple[Space, Space, Space], of: Mapping[str, Any]):
        super().__init__()
        self.manifold_in, self.manifold_hidden, self.manifold_out = spaces
        self.of, width, variant = of, of["hidden_channels"], of["variant"]
        hidden, count = self.manifold_hidden, of["trans_num_layers"]
        self.convs = nn.ModuleList(
            TransConvLayer(
                hidden, width, of["trans_num_heads"], use_weight=bool(of["trans_use_weight"]), concat=bool(of["trans_heads_concat"]),
                kind=of["attention_type"], power=of["power_k"], offset=0.0 if variant == "medium" else 1e-6, over_k=variant != "Hypformer",
                joined=bool(of["trans_heads_concat"]) and variant != "Hypformer",
            )
            for _ in range(count)
        )  # fmt: skip
        first, last = HypLinear(self.manifold_in, of["in_channels"], width, hidden), HypLinear(hidden, width, width, self.manifold_out)
        self.fcs = nn.ModuleList([first, last])
        self.bns = nn.ModuleList(HypLayerNorm(hidden, width) for _ in range(count + 1))
        self.positional_encoding = HypLinear(self.manifold_in, of["in_channels"], width, hidden)
        self.dropout = HypDropout(hidden, of["trans_dropout"])
        self.activation = HypActivation(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Features to points of the hyperboloid of k_out."""
        of, at = self.of, self.manifold_in if self.of["variant"] == "medium" else self.manifold_hidden
        h = self.fcs[0](x, flat=True)
        if of["add_positional_encoding"]:
            h = at.centroid(torch.stack([h, self.positional_encoding(x, flat=True)], 1))
        h = self.bns[0](h) if of["trans_use_bn"] else h
        h = self.activation(h) if of["trans_use_act"] else h
        h = self.dropout(h) if of["trans_dropout"] > 0 else h
        for layer, conv in enumerate(self.convs):
            new = conv(h)
            new = at.centroid(torch.stack([new, h], 1)) if of["trans_use_residual"] else new
            h = self.bns[layer + 1](new) if of["trans_use_bn"] else new
        return self.fcs[1](h)


class Hypformer(nn.Module):
    """Logits of nodes. `of`: the settings of `weights.models.hypformer`; `variant` is "medium", "large" or "Hypformer"."""

    def __init__(self, of: Mapping[str, Any]):
        super().__init__()
        self.of = of = {**DEFAULTS, **of}
        self.manifold_in = Space(float(of["k_in"]))
        self.manifold_hidden = Space(float(of["k_out"]))
        self.manifold_out = Space(float(of["k_out"]))
        width, classes, variant = of["hidden_channels"], of["out_channels"], of["variant"]
        self.trans_conv = TransConv((self.manifold_in, self.manifold_hidden, self.manifold_out), of)
        flags = {name: bool(of[f"gnn_{name}"]) for name in ("use_bn", "use_residual", "use_weight", "use_init", "use_act")}
        there = variant == "large" or (variant == "medium" and of["use_graph"])
        self.graph_conv = GraphConv(of["in_channels"], width, of["gnn_num_layers"], dropout=of["gnn_dropout"], **flags) if there else None
        if of["decoder_type"] == "euc":
            self.decode_trans: nn.Module = nn.Linear(width, classes)
            self.decode_graph: nn.Module = nn.Linear(width, classes)
        else:
            self.decode_graph = HypLinear(self.manifold_out, width, width)
            self.decode_trans = HypCLS(self.manifold_out, width, classes, bounded=variant != "medium")

    def encode(self, x: Tensor, graph: Graph | None = None) -> Tensor:
        """The points of the transformer, which does not look at the graph."""
        return self.trans_conv(x)

    def encode_graph(self, x: Tensor, graph: Graph) -> Tensor:
        """The states of the graph network."""
        assert self.graph_conv is not None
        return self.graph_conv(x, graph)

    def forward(self, x: Tensor, graph: Graph | None = None) -> Tensor:
        """Class logits."""
        return self.classify(self.encode(x), self.encode_graph(x, graph) if self.of["use_graph"] and graph is not None else None)

    def classify(self, h: Tensor, z: Tensor | None = None) -> Tensor:
        """The logits of the transformer's points h, and of the states z of the graph network."""
        share = self.of["graph_weight"]
        if self.of["decoder_type"] == "hyp":
            if z is not None:
                both = torch.stack([(1 - share) * h, share * self.decode_graph(z, flat=True)], 1)
                h = self.manifold_out.centroid(both)
            return self.decode_trans(h)
        logits = self.decode_trans(self.manifold_out.log_of(h))
        return logits if z is None else (1 - share) * logits + share * self.decode_graph(z)
