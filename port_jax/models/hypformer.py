"""Hypformer (Yang et al., KDD 2024): a transformer between all nodes, whose states are points of a hyperboloid, beside a graph network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from port_jax.checks import as_features, require_choice
from port_jax.graphs import Graph
from port_jax.layers.hypformer import ATTENTIONS, ClassPoints, GraphBranch, HypformerAttention, lifted_features
from port_jax.layers.linear import LorentzFullyConnected
from port_jax.layers.pointwise import SpaceActivation, SpaceDropout, SpaceLayerNorm
from port_jax.manifolds import Euclidean, Lorentz
from port_jax.manifolds.hyperboloid.ambient import onto
from port_jax.types import ManifoldTree, Params

__all__ = ["DECODERS", "FORMS", "RIGHT", "Form", "Hypformer", "HypformerEncoder"]

Points = Float[Array, "n hidden+1"]

DECODERS = ("euc", "hyp")


@dataclass(frozen=True)
class Form:
    """In what programs of Hypformer differ.

    by_k_in: midpoints between states on the hyperboloid of k_in, where the states are on that of k_out; offset: what is added to
    |norm_scale|; attention_over_k, logits_over_k: products divided by k; bounded: logits that are at most 0; time: what stands before
    features that are lifted; rescaled: points multiplied by sqrt(k'/k) where they go to a hyperboloid of another k'; own_hidden: states on
    the hyperboloid of k_hidden, not on that of k_out.
    """

    by_k_in: bool = False
    offset: float = 0.0
    attention_over_k: bool = True
    logits_over_k: bool = False
    bounded: bool = False
    time: float = 1.0
    rescaled: bool = False
    own_hidden: bool = False


FORMS = {
    "medium": Form(by_k_in=True, logits_over_k=True),
    "large": Form(offset=1e-6, bounded=True),
    "Hypformer": Form(offset=1e-6, bounded=True, attention_over_k=False),
}
"""The three folders of the authors' code (Graph-and-Geometric-Learning/hyperbolic-transformer, commit 768fcec)."""
RIGHT = Form(time=0.0, rescaled=True, own_hidden=True)
"""What the paper's formulas mean."""


class HypformerEncoder(nn.Module):
    """Features are lifted to the hyperboloid of k_in and mapped to that of the states, and then pass layers of attention.

    x_0 = drop(relu(norm(mid(F x, P x)))), x_{l+1} = norm(mid(attention(x_l), x_l)), and a last linear map. P x, the ReLU, the norms and the
    midpoints of the layers can be left out. mid is the centroid √k a/|a|_L of the mean a of two points. Parameters `fcs_0`, `fcs_1`
    and `positional_encoding`, each `linear/{kernel, bias}`, `bns_l/norm/{scale, bias}`, and `convs_l`, a `HypformerAttention`.
    """

    features: int
    k_in: float
    k_hidden: float
    k_out: float
    form: Form
    layers: int = 1
    heads: int = 1
    dropout: float = 0.0
    use_bn: bool = False
    use_residual: bool = False
    use_weight: bool = True
    use_act: bool = False
    concat: bool = False
    add_positional_encoding: bool = True
    attention_type: str = "linear_focused"
    power_k: float = 2.0

    def setup(self) -> None:
        form, wide = self.form, self.features
        self.fcs = [LorentzFullyConnected(wide) for _ in range(2)]
        self.positional_encoding = LorentzFullyConnected(wide) if self.add_positional_encoding else None
        self.bns = [SpaceLayerNorm() for _ in range(self.layers + 1)] if self.use_bn else None
        self.convs = [
            HypformerAttention(wide, self.heads, self.attention_type, self.use_weight, self.concat, self.power_k, form.offset,
                               form.attention_over_k)
            for _ in range(self.layers)
        ]  # fmt: skip
        self.activation, self.drop = SpaceActivation(), SpaceDropout(self.dropout)

    def __call__(self, x: Float[Array, "n in"], train: bool = False) -> Points:
        """Points of the hyperboloid of k_out."""
        form, first, space = self.form, Lorentz(self.k_in), Lorentz(self.k_hidden)

        def mapped(linear: LorentzFullyConnected, x: Points, k: float, goal: float) -> Points:
            y = linear(Lorentz(k), x)
            return y * (goal / k) ** 0.5 if form.rescaled else y

        def middle(x: Points, y: Points) -> Points:
            return onto((x + y) / 2, first.k if form.by_k_in else space.k)

        def normed(x: Points, layer: int) -> Points:
            return x if self.bns is None else self.bns[layer](space, x)

        given = lifted_features(first, x, form.time)
        h = mapped(self.fcs[0], given, self.k_in, self.k_hidden)
        if self.positional_encoding is not None:
            h = middle(h, mapped(self.positional_encoding, given, self.k_in, self.k_hidden))
        h = normed(h, 0)
        h = self.activation(space, h) if self.use_act else h
        h = self.drop(space, h, deterministic=False) if train and self.dropout > 0 else h
        for layer, attention in enumerate(self.convs):
            new = attention(space, h)
            h = normed(middle(new, h) if self.use_residual else new, layer + 1)
        return mapped(self.fcs[1], h, self.k_hidden, self.k_out)


class Hypformer(nn.Module):
    """Class logits of nodes, of their features and, with `use_graph`, of a graph. The settings have the names of the authors' code.

    k_in, k_hidden, k_out: squared radii of the hyperboloids of features, states and outputs, of curvature -1/k. `variant` says which of
    the folders of the authors' code has trained it, which differ in numbers (`FORMS`). All of them ignore k_hidden for k_out, lift
    features with a 1 as their time, and leave points of k_in as they are where they become points of k_out. With `as_trained=False` the
    formulas are the right ones (`RIGHT`) whatever the variant, and the logits of "hyp" are -|x - c|²_L - bias.

    decoder_type: "hyp" (`ClassPoints`, of the centroid of (1 - g) x and g z, with z the outputs of the graph network, lifted and mapped
    linearly, and g = graph_weight) or "euc" (W log_0 x + b, and the logits of both branches with the weights 1 - g and g). Parameters:
    `trans_conv` (`HypformerEncoder`), `graph_conv` (`GraphBranch`), `decode_graph` and `decode_trans`. With `train=True` dropout draws from
    the stream "dropout", and with `mutable=["batch_stats"]` the running statistics of the graph network are written.
    """

    in_channels: int
    hidden_channels: int
    out_channels: int
    variant: str = "medium"
    use_graph: bool = True
    graph_weight: float = 0.5
    gnn_num_layers: int = 2
    gnn_dropout: float = 0.5
    gnn_use_bn: bool = True
    gnn_use_residual: bool = True
    gnn_use_weight: bool = False
    gnn_use_init: bool = False
    gnn_use_act: bool = True
    trans_num_layers: int = 1
    trans_num_heads: int = 1
    trans_heads_concat: bool = False
    trans_dropout: float = 0.0
    trans_use_weight: bool = True
    trans_use_bn: bool = False
    trans_use_residual: bool = False
    trans_use_act: bool = False
    k_in: float = 1.0
    k_hidden: float = 1.0
    k_out: float = 1.0
    power_k: float = 2.0
    attention_type: str = "linear_focused"
    add_positional_encoding: bool = True
    decoder_type: str = "euc"
    as_trained: bool = True

    def __post_init__(self) -> None:
        require_choice("variant", self.variant, tuple(FORMS))
        require_choice("attention_type", self.attention_type, ATTENTIONS)
        require_choice("decoder_type", self.decoder_type, DECODERS)
        super().__post_init__()

    @property
    def form(self) -> Form:
        """The formulas that the model computes with."""
        return FORMS[self.variant] if self.as_trained else RIGHT

    def setup(self) -> None:
        wide, form = self.hidden_channels, self.form
        self.trans_conv = HypformerEncoder(
            wide, self.k_in, self.k_hidden if form.own_hidden else self.k_out, self.k_out, form, self.trans_num_layers,
            self.trans_num_heads, self.trans_dropout, self.trans_use_bn, self.trans_use_residual, self.trans_use_weight, self.trans_use_act,
            self.trans_heads_concat, self.add_positional_encoding, self.attention_type, self.power_k,
        )  # fmt: skip
        hyperbolic = self.decoder_type == "hyp"
        points = ClassPoints(self.out_channels, form.logits_over_k, form.bounded)
        self.decode_trans: Any = points if hyperbolic else nn.Dense(self.out_channels)
        if self.use_graph:
            self.graph_conv = GraphBranch(
                wide, self.gnn_num_layers, self.gnn_dropout, self.gnn_use_bn, self.gnn_use_residual, self.gnn_use_weight,
                self.gnn_use_init, self.gnn_use_act,
            )  # fmt: skip
            self.decode_graph: Any = LorentzFullyConnected(wide) if hyperbolic else nn.Dense(self.out_channels)

    def encode(self, x: Float[Array, "n in"], graph: Graph | None = None, train: bool = False) -> Points:
        """The points of the transformer, on the hyperboloid of k_out. It does not look at the graph."""
        nodes = len(x) if graph is None else graph.num_nodes
        return self.trans_conv(as_features("x", x, (nodes, self.in_channels)), train)

    def encode_graph(self, x: Float[Array, "n in"], graph: Graph, train: bool = False) -> Float[Array, "n hidden"]:
        """The states of the graph network, flat vectors. ValueError without `use_graph`."""
        if not self.use_graph:
            raise ValueError("use_graph is False: this model has no graph network")
        return self.graph_conv(as_features("x", x, (graph.num_nodes, self.in_channels)), graph, train)

    def __call__(self, x: Float[Array, "n in"], graph: Graph | None = None, train: bool = False) -> Float[Array, "n out"]:
        """Logits. ValueError if the model has a graph network and is given no graph."""
        if self.use_graph and graph is None:
            raise ValueError("graph: found none, and use_graph is True; pass a Graph")
        h = self.encode(x, graph, train)
        return self.classify(h, self.encode_graph(x, graph, train) if self.use_graph and graph is not None else None)

    def classify(self, h: Points, z: Float[Array, "n hidden"] | None = None) -> Float[Array, "n out"]:
        """The logits of what `encode` and, with `use_graph`, `encode_graph` give."""
        space, share = Lorentz(self.k_out), self.graph_weight
        if self.decoder_type == "euc":
            logits = self.decode_trans(space.to_tangent0(h))
            return logits if z is None else (1 - share) * logits + share * self.decode_graph(z)
        if z is not None:
            other = self.decode_graph(space, lifted_features(space, z, self.form.time))
            h = onto(((1 - share) * h + share * other) / 2, space.k)
        return self.decode_trans(space, h)

    def manifolds(self, params: Params) -> ManifoldTree:
        """The points of the classes lie on the hyperboloid of k_out; everything else is flat."""
        return jax.tree_util.tree_map_with_path(lambda path, _: Lorentz(self.k_out) if path[-1].key == "cls" else Euclidean(), params)
