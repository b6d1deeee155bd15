"""Geometry interaction learning, and the HGAT of the same code base (arXiv 2010.12135)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from port_jax.checks import as_features, as_indices, as_numbers, require_choice
from port_jax.graphs import Graph
from port_jax.initializers import normal
from port_jax.layers.activations import ACTIVATIONS
from port_jax.layers.decoders import TangentLinear, fermi_dirac
from port_jax.layers.hgat import OriginAttention
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.pairwise import pairwise_dist2plane
from port_jax.primitives import rows_at
from port_jax.types import ManifoldTree, Params

__all__ = ["GIL", "KINDS", "UNIT", "DualDecoder", "GILayer", "Pair", "attention_layer", "require_inside"]

KINDS = ("GIL", "HGAT")
UNIT = PoincareBall(1.0)
"""The ball of all attention layers and fusions: the original uses c only in the maps at the origin."""


class Pair(NamedTuple):
    """GIL's two embeddings of each node: a point of the ball and a Euclidean vector."""

    hyperbolic: Float[Array, "n d"]
    euclidean: Float[Array, "n d"]


class GILayer(nn.Module):
    """Attention on the ball (`conv`) and in flat space (`conv_e`), after which each is updated from the other.

    h <- h (+) (w d(h, exp_0 e)) (x) exp_0 e, then e <- e + w' |log_0 h - e|^2 log_0 h. The HGAT baseline is `conv`
    alone.
    """

    kind: str
    features: int
    attention: dict[str, Any]
    attend: bool
    distance: bool
    dropout: float
    drop_h: float
    drop_e: float

    @nn.compact
    def __call__(self, ball: PoincareBall, pair: Pair, graph: Graph, deterministic: bool) -> Pair:
        conv = attention_layer(
            self.features,
            {**self.attention, "dropout": self.dropout},
            distance=self.distance,
            attend=self.attend,
            name="conv",
        )
        h = conv(UNIT, UNIT, pair.hyperbolic, graph, deterministic=deterministic)
        if self.kind == "HGAT":
            return Pair(h, pair.euclidean)
        dropped = nn.Dropout(self.dropout)(pair.euclidean, deterministic=deterministic)
        flat = attention_layer(self.features, self.attention, distance=False, attend=True, name="conv_e")
        e = flat(Euclidean(), Euclidean(), dropped, graph, deterministic=deterministic)
        point = UNIT.projx(ball.expmap0(e))
        step = UNIT.dist(h, point, keepdim=True) * self.param("h_fusion", nn.initializers.zeros, (1, 1))
        point = ball.projx(UNIT.mobius_scalar_mul(step, point))
        h = UNIT.mobius_add(h, nn.Dropout(self.drop_e)(point, deterministic=deterministic))
        u = ball.to_tangent0(h)
        step = ((u - e) ** 2).sum(-1, keepdims=True) * self.param("e_fusion", nn.initializers.zeros, (1, 1))
        return Pair(h, e + nn.Dropout(self.drop_h)(step * u, deterministic=deterministic))


def require_inside(h: Float[Array, "n d"]) -> None:
    """Raises ValueError at the first point of a concrete array that is not inside the unit ball.

    For such a point the original computes artanh(1), which is infinite in float32, and the gradients of its weights are NaN.
    """
    if isinstance(h, Tracer):
        return
    lengths = jnp.sqrt((h * h).sum(-1))
    if (lengths >= 1).any():
        worst = int(jnp.argmax(lengths))
        raise ValueError(
            f"x: row {worst} is mapped to length {float(lengths[worst]):.3g}, out of the unit ball, where the attention is defined; "
            "with c below 1 give features shorter than 1 (--normalize-feats in the original)"
        )


def attention_layer(features: int, attention: dict[str, Any], *, distance: bool, attend: bool, name: str) -> OriginAttention:
    """The preset `gil` with `features` channels, in all if heads are concatenated and otherwise for each head."""
    channels = features // attention["heads"] if attention["concat"] else features
    return OriginAttention("gil", channels, **attention, distance=distance, attend=attend, name=name)


class DualDecoder(nn.Module):
    """Class logits: scaled signed distances to hyperplanes and Euclidean attention, mixed by two gates.

    As in the original, both gates of the last node of the batch are used for all nodes.
    """

    num_classes: int
    activation: str
    attention: dict[str, Any]
    attend: bool
    distance: bool
    dropout: float
    drop_h: float
    drop_e: float

    @nn.compact
    def __call__(self, ball: PoincareBall, pair: Pair, graph: Graph, deterministic: bool) -> Float[Array, "n classes"]:
        dim = pair.hyperbolic.shape[-1]
        dropped = nn.Dropout(self.dropout)(pair.euclidean, deterministic=deterministic)
        flat = attention_layer(self.num_classes, {**self.attention, "activation": "none"}, distance=False, attend=True, name="cls_e")
        flat = flat(Euclidean(), Euclidean(), dropped, graph, deterministic=deterministic)
        curved = {**self.attention, "activation": self.activation, "dropout": self.dropout}
        conv = attention_layer(dim, curved, distance=self.distance, attend=self.attend, name="cls_h")
        h = conv(UNIT, UNIT, pair.hyperbolic, graph, deterministic=deterministic)
        point = self.param("point", normal(ball, 0.25), (self.num_classes, dim))
        tangent = self.param("tangent", nn.initializers.normal(dim**-0.5), (self.num_classes, dim))
        scale = self.param("scale", nn.initializers.zeros, (self.num_classes,))
        far = pairwise_dist2plane(ball, h, point, tangent) * jnp.exp(scale)[None]
        gates = [jax.nn.sigmoid(nn.Dense(1, use_bias=False, name="w_h")(ball.to_tangent0(h))),
                 jax.nn.sigmoid(nn.Dense(1, use_bias=False, name="w_e")(flat))]  # fmt: skip
        rates = (self.drop_h, self.drop_e)
        gates = [nn.Dropout(rate)(gate, deterministic=deterministic) for gate, rate in zip(gates, rates, strict=True)]
        gates = [rows_at(gate, jnp.array([graph.num_nodes - 1])) for gate in gates]
        return (gates[0] * far + gates[1] * flat) / jnp.maximum(gates[0] + gates[1], 1e-12)


class GIL(nn.Module):
    """Layers that learn on the ball and in flat space and let both interact; with `kind` HGAT, on the ball alone.

    Give `num_classes` for node classification and leave it out for link prediction. The attention layers work on the unit ball, and
    `curvature` (c) applies to the maps from and to the origin and to the classifier's hyperplanes, as in the original, which is used
    with c = 1; if it is trained, it is the parameter `c` [1]. With c below 1 a feature of length 1 or more may be mapped out of the
    unit ball, where the attention is not defined: outside jit this is an error (`require_inside`). Features are mapped to the ball by
    exp_0, unless `hyperbolic_input` says that they are points already. `classifier_heads` and `classifier_concat` belong to the
    classifier's attention; `normalize_gates` divides the gates of a link by their sum (both differ on the original's data set
    "pubmed").
    """

    in_features: int
    features: Sequence[int]
    heads: int
    kind: str = "GIL"
    curvature: float = 1.0
    learnable_curvature: bool = False
    hyperbolic_input: bool = False
    activation: str = "relu"
    concat: bool = True
    negative_slope: float = 0.2
    use_bias: bool = True
    attend: bool = True
    distance: bool = True
    num_classes: int | None = None
    classifier_heads: int = 1
    classifier_concat: bool = True
    normalize_gates: bool = False
    r: float = 2.0
    t: float = 1.0
    dropout: float = 0.0
    drop_h: float = 0.0
    drop_e: float = 0.0

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)
        require_choice("activation", self.activation, tuple(ACTIVATIONS))
        object.__setattr__(self, "features", tuple(self.features))
        if self.concat and any(width % self.heads for width in self.features):
            raise ValueError(f"features: found {self.features}; give multiples of heads={self.heads}, whose outputs are concatenated")
        super().__post_init__()

    def setup(self) -> None:
        shared: dict[str, Any] = {
            "use_bias": self.use_bias,
            "negative_slope": self.negative_slope,
            "attention_dropout": self.dropout,
        }
        inner = {**shared, "heads": self.heads, "concat": self.concat, "activation": self.activation}
        hyperbolic: dict[str, Any] = {"attend": self.attend, "distance": self.distance}
        rates: dict[str, Any] = {"dropout": self.dropout, "drop_h": self.drop_h, "drop_e": self.drop_e}
        if self.learnable_curvature:
            self.c = self.param("c", lambda _key: jnp.full((1,), self.curvature, jnp.float32))
        self.layers = [GILayer(self.kind, width, inner, **hyperbolic, **rates) for width in self.features]
        self.decoder: Any = None
        if self.num_classes is None:
            if self.kind == "GIL":
                self.w_h, self.w_e = nn.Dense(1, use_bias=False), nn.Dense(1, use_bias=False)
        elif self.kind == "GIL":
            outer = {**shared, "heads": self.classifier_heads, "concat": self.classifier_concat}
            self.decoder = DualDecoder(self.num_classes, self.activation, outer, **hyperbolic, **rates)
        else:
            self.decoder = TangentLinear(self.num_classes, self.use_bias)

    def encode(self, x: Float[Array, "n in"], graph: Graph, deterministic: bool = True) -> Pair | Float[Array, "n d"]:
        """GIL: a `Pair` of points of the ball and vectors of flat space. HGAT: points of the ball."""
        x = as_features("x", x, (graph.num_nodes, self.in_features))
        ball = self.ball()
        pair = Pair(x if self.hyperbolic_input else ball.from_tangent0(x), x)
        require_inside(pair.hyperbolic)
        for layer in self.layers:
            pair = layer(ball, pair, graph, deterministic)
        return pair if self.kind == "GIL" else pair.hyperbolic

    def __call__(self, x: Float[Array, "n in"], graph: Graph, deterministic: bool = True) -> Any:
        """Class logits [N, classes] if the model has a classifier, else the embeddings as `encode` returns them."""
        h: Any = self.encode(x, graph, deterministic)
        if self.decoder is None:
            if self.is_initializing() and self.kind == "GIL":
                self.score(h, jnp.zeros((1, 2), int))
            return h
        if self.kind == "GIL":
            return self.decoder(self.ball(), h, graph, deterministic)
        return self.decoder(self.ball(), h)

    def score(self, h: Pair | Float[Array, "n d"], pairs: Int[Array, "p 2"]) -> Float[Array, " p"]:
        """The probability of each link.

        HGAT: Fermi-Dirac of the squared distance. GIL: sigmoid(w_h p_h + w_e p_e), where p_h and p_e are Fermi-Dirac of
        |log_0 h_i - log_0 h_j| and |e_i - e_j|; as in the original, the gates w of the last pair are used for all pairs.
        """
        pairs, ball = as_indices("pairs", pairs), self.ball()
        if not isinstance(h, tuple):
            h = as_numbers("h", h)
            return fermi_dirac(ball.dist2(rows_at(h, pairs[:, 0]), rows_at(h, pairs[:, 1])), self.r, self.t)
        curved, flat = (rows_at(u, pairs[:, 0]) - rows_at(u, pairs[:, 1]) for u in (ball.to_tangent0(h[0]), h[1]))
        w_h, w_e = jax.nn.sigmoid(self.w_h(curved))[-1], jax.nn.sigmoid(self.w_e(flat))[-1]
        p_h, p_e = (fermi_dirac(jnp.sqrt((step**2).sum(-1) + 1e-15), self.r, self.t) for step in (curved, flat))
        total = w_h + w_e if self.normalize_gates else 1.0
        return jax.nn.sigmoid((w_h * p_h + w_e * p_e) / total)

    def manifolds(self, params: Params) -> ManifoldTree:
        """Euclidean for all parameters: the original's optimizers treat the classifier's points and normals as Euclidean, too."""
        return {name: Euclidean() for name in params}

    def ball(self) -> PoincareBall:
        """The ball of all layers, with the trained or the given curvature."""
        return PoincareBall(self.c[0] if self.learnable_curvature else self.curvature)
