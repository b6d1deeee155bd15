"""Hyperbolic temporal graph network (arXiv 2107.03767)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from port_jax.checks import as_features, as_indices, as_numbers, require_choice
from port_jax.graphs import Graph, aggregate, gather_receivers, gather_senders, segment_sum
from port_jax.layers.activations import ACTIVATIONS
from port_jax.layers.decoders import fermi_dirac
from port_jax.layers.hgat import OriginAttention, dropout_masks
from port_jax.layers.tangent import HypLinear
from port_jax.manifolds import Euclidean, Manifold, PoincareBall
from port_jax.primitives import rows_at
from port_jax.types import ManifoldTree, Params

__all__ = ["AGGREGATIONS", "HTGN", "DegreeConvolution", "GRUCell"]

AGGREGATIONS = ("att", "deg")
_glorot = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


class DegreeConvolution(nn.Module):
    """exp_0(act(log_0 exp_0 sum_j u_j / sqrt(deg_i deg_j))) with u = log_0(linear(x)).

    The self loops of the graph are replaced by one per node.
    """

    features: int
    activation: str = "leaky_relu"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, manifold: Manifold, manifold_out: Manifold, x: Float[Array, "n in"], graph: Graph,
                 deterministic: bool = True) -> Float[Array, "n out"]:  # fmt: skip
        masks = dropout_masks(self, {"weight": (self.dropout, (x.shape[-1], self.features))}, deterministic)
        u = manifold.to_tangent0(HypLinear(self.features, name="linear")(manifold, x, masks.get("weight")))
        edges = (~graph.loop_mask).astype(u.dtype)[:, None]
        scale = (1 + segment_sum(edges, graph)) ** -0.5
        between = edges * gather_receivers(scale, graph) * gather_senders(scale, graph)
        out = aggregate(between, u[:, None], graph)[:, 0] + scale**2 * u
        out = manifold.within_reach(out)
        return manifold_out.from_tangent0(ACTIVATIONS[self.activation](out))


class GRUCell(nn.Module):
    """torch's GRU cell: h' = (1 - z) n + z h, n = tanh(W_n x + b_n + r (U_n h + d_n)); the gates are in the order r, z, n.

    flax.linen.GRUCell has no biases of U_r and U_z, which torch's files contain.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], h: Float[Array, "n d"]) -> Float[Array, "n d"]:
        def gates(name: str, value: Float[Array, "n d"]) -> list[Float[Array, "n d"]]:
            bound = nn.initializers.uniform(2 / self.features**0.5)
            start = lambda *args: bound(*args) - 1 / self.features**0.5  # noqa: E731
            weight = self.param(f"weight_{name}", start, (value.shape[-1], 3 * self.features))
            return jnp.split(value @ weight + self.param(f"bias_{name}", start, (3 * self.features,))[None], 3, -1)

        (xr, xz, xn), (hr, hz, hn) = gates("ih", x), gates("hh", h)
        z = jax.nn.sigmoid(xz + hz)
        return (1 - z) * jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn) + z * h


class HTGN(nn.Module):
    """One step in time: features and the last hidden state pass through graph convolutions and a GRU in the tangent space.

    `features` are the channels per head of each convolution; hidden layers concatenate their heads, the last one averages them
    (unless `concat_last`). `curvature` is one c, or one for each of the L + 1 balls; if they are learnable, they are the parameter
    `c` [L + 1, 1] itself. `recurrent=False` leaves only the convolutions: features in the tangent space at the origin -> points.
    With `num_nodes` the model has a table `feat` of trained features, which is used if `trainable_feat`.
    """

    in_features: int
    features: Sequence[int] = (32, 16)
    heads: int = 1
    aggregation: str = "att"
    curvature: float | Sequence[float] = 1.0
    learnable_curvature: bool = False
    recurrent: bool = True
    use_hta: bool = True
    attention_width: int = 16
    num_nodes: int | None = None
    trainable_feat: bool = False
    concat_last: bool = False
    negative_slope: float = 0.2
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_choice("aggregation", self.aggregation, AGGREGATIONS)
        if self.trainable_feat and self.num_nodes is None:
            raise ValueError("num_nodes: found none; give the number of nodes whose features are trained")
        object.__setattr__(self, "features", tuple(self.features))
        given, depth = self.curvature, len(self.features) + 1
        curvature = (float(given),) * depth if isinstance(given, (int, float)) else tuple(float(c) for c in given)
        if len(curvature) != depth or min(curvature) <= 0:
            raise ValueError(f"curvature: found {given}; give one positive number, or {depth}, one for each ball")
        object.__setattr__(self, "curvature", curvature)
        super().__post_init__()

    def setup(self) -> None:
        if self.learnable_curvature:
            self.c = self.param("c", lambda _key: jnp.asarray(self.curvature, jnp.float32)[:, None])
        layers: list[nn.Module] = []
        for i, channels in enumerate(self.features):
            if self.aggregation == "deg":
                layers.append(DegreeConvolution(channels, dropout=self.dropout))
                continue
            concat = self.concat_last or i + 1 < len(self.features)
            layers.append(OriginAttention("htgn", channels, self.heads, activation="leaky_relu", concat=concat,
                                          negative_slope=self.negative_slope, dropout=self.dropout,
                                          attention_dropout=self.dropout))  # fmt: skip
        self.layers = layers
        if self.recurrent:
            width = self.features[-1]
            self.linear = nn.Dense(width)
            self.gru = GRUCell(width)
            if self.use_hta:
                self.Q = self.param("Q", _glorot, (width, self.attention_width))
                self.r = self.param("r", _glorot, (self.attention_width, 1))
        if self.trainable_feat:
            self.feat = self.param("feat", _glorot, (self.num_nodes, self.in_features))

    def encode(self, x: Float[Array, "n in"] | None, graph: Graph, hiddens: Float[Array, "w n d"] | None = None,
               deterministic: bool = True) -> Float[Array, "n d"]:  # fmt: skip
        """Points on the last ball. `hiddens` are the hidden states of the previous steps, oldest first.

        The original draws the hidden states before the first step at random and does not save them; None means the origin.
        """
        if self.trainable_feat:
            x = self.feat if x is None else x
        x = as_features("x", x, (graph.num_nodes, self.in_features))
        balls = [self.ball(l) for l in range(len(self.features) + 1)]
        if not self.recurrent:
            return self._convolve(balls, balls[0].from_tangent0(x), graph, deterministic)
        u = self.linear(x)
        if hiddens is None:
            hiddens = jnp.zeros((1, graph.num_nodes, self.features[-1]), u.dtype)
        hiddens = as_features("hiddens", hiddens, (len(hiddens), graph.num_nodes, self.features[-1]))
        h = balls[0].projx(jnp.concatenate([balls[0].from_tangent0(u), hiddens[-1]], -1))
        h = balls[-1].to_tangent0(self._convolve(balls, h, graph, deterministic))
        return balls[-1].from_tangent0(self.gru(h, self._attend(balls[-1].to_tangent0(hiddens))))

    def __call__(self, x: Float[Array, "n in"] | None, graph: Graph, hiddens: Float[Array, "w n d"] | None = None,
                 deterministic: bool = True) -> Float[Array, "n d"]:  # fmt: skip
        """The same as `encode`: the model has no classifier."""
        return self.encode(x, graph, hiddens, deterministic)

    def score(self, h: Float[Array, "n d"], pairs: Int[Array, "p 2"]) -> Float[Array, " p"]:
        """Fermi-Dirac probability with r = 2, t = 1 of the squared distance on the unit ball, as in the original for every c."""
        h, pairs = as_numbers("h", h), as_indices("pairs", pairs)
        return fermi_dirac(PoincareBall(1.0).dist2(rows_at(h, pairs[:, 0]), rows_at(h, pairs[:, 1])))

    def htc(self, h: Float[Array, "n d"], hidden: Float[Array, "n d"]) -> Float[Array, ""]:
        """The mean squared distance to the previous hidden state, the temporal consistency that training adds to its loss."""
        return self.ball(len(self.features)).dist2(h, hidden).mean()

    def manifolds(self, params: Params) -> ManifoldTree:
        """All parameters are Euclidean; those of hyperbolic layers lie in tangent spaces."""
        return {name: Euclidean() for name in params}

    def _convolve(self, balls: Sequence[Manifold], h: Float[Array, "n d"], graph: Graph, deterministic: bool):
        for layer, ball, ball_out in zip(self.layers, balls, balls[1:], strict=False):
            h = layer(ball, ball_out, h, graph, deterministic=deterministic)
        return h

    def _attend(self, window: Float[Array, "w n d"]) -> Float[Array, "n d"]:
        """The mean over time of softmax_t(tanh(h_t Q) r) h_t, as in the original's code; or the last state."""
        if not self.use_hta:
            return window[-1]
        return (jax.nn.softmax(jnp.tanh(window @ self.Q) @ self.r, 0) * window).mean(0)

    def ball(self, l: int) -> PoincareBall:
        """The ball of the input of layer l; the last one is that of the output."""
        assert isinstance(self.curvature, tuple)
        return PoincareBall(self.c[l, 0] if self.learnable_curvature else self.curvature[l])
