"""HyboNet's layers on the hyperboloid <x, x> = -1: linear maps and centroids without tangent spaces (arXiv 2105.14686)."""

from __future__ import annotations

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.graphs import Graph, aggregate, edge_dot
from port_jax.layers.activations import ACTIVATIONS
from port_jax.layers.gcn import edge_weights
from port_jax.manifolds import trig

__all__ = [
    "LONGEST",
    "Lifted",
    "LorentzAggregation",
    "LorentzDecoder",
    "LorentzGraphConvolution",
    "LorentzLinear",
    "flip",
    "lift",
    "lifted",
    "random_points",
]

LONGEST = 10.0
"""The length to which HyboNet shortens tangent vectors before sinh and cosh."""


def flip(x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """x with the sign of its time part changed, so that the dot product flip(x) . y is <x, y>."""
    return jnp.concatenate([-x[..., :1], x[..., 1:]], -1)


class Lifted(NamedTuple):
    """The points (time, factor x) of the hyperboloid, kept apart: a linear map of them is one of x, without an array of all points."""

    time: Float[Array, "n 1"]
    factor: Float[Array, "n 1"]
    x: Float[Array, "n in"]

    def points(self) -> Float[Array, "n ambient"]:
        """The points as one array."""
        return jnp.concatenate([self.time, self.factor * self.x], -1)

    def mapped(self, kernel: Float[Array, "ambient out"]) -> Float[Array, "n out"]:
        """points() @ kernel, equal up to rounding."""
        return self.time * kernel[:1] + self.factor * (self.x @ kernel[1:])


def lifted(x: Float[Array, "n in"]) -> Lifted:
    """exp_0 of (0, x): time cosh |x|, factor sinh |x| / |x|, with x shortened to length 10 where it is longer."""
    square = (x * x).sum(-1, keepdims=True)
    far = square > LONGEST**2
    s = -jnp.where(far, LONGEST**2, square)
    return Lifted(trig.cos_k(s), trig.sin_ratio(s) * jnp.where(far, LONGEST / jnp.sqrt(jnp.where(far, square, 1)), 1), x)


def lift(x: Float[Array, "n in"]) -> Float[Array, "n ambient"]:
    """exp_0 of (0, x), with x shortened to length 10 where it is longer."""
    return lifted(x).points()


def _first_zero(key: Array, shape: tuple[int, ...], dtype: object = jnp.float32) -> Float[Array, "in out"]:
    bound = 1 / math.sqrt(shape[1])
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound).at[0].set(0)


class LorentzLinear(nn.Module):
    """y = W dropout(act(x)) + b; time t = sigmoid(y_0) exp(scale) + 1.1, space y_1.. at length sqrt(t^2 - 1).

    Parameters `kernel` [in, out], `bias` [out], `scale` []. The bias moves the time part as well. `Lifted` points are mapped as they are
    where nothing acts on their coordinates before.
    """

    features: int
    use_bias: bool = True
    dropout: float = 0.1
    act: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n in"] | Lifted, deterministic: bool = True) -> Float[Array, "n out"]:
        scale = self.param("scale", nn.initializers.constant(math.log(10.0)), ())
        if isinstance(x, Lifted) and self.act is None and (deterministic or self.dropout == 0):
            y = x.mapped(self.param("kernel", _first_zero, (1 + x.x.shape[-1], self.features)))
        else:
            x = x.points() if isinstance(x, Lifted) else x
            kernel = self.param("kernel", _first_zero, (x.shape[-1], self.features))
            x = x if self.act is None else ACTIVATIONS[self.act](x)
            y = nn.Dropout(self.dropout)(x, deterministic=deterministic) @ kernel
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,))[None]
        time = nn.sigmoid(y[..., :1]) * jnp.exp(scale) + 1.1
        space = y[..., 1:]
        square = jnp.maximum((space * space).sum(-1, keepdims=True), 1e-8)
        return jnp.concatenate([time, space * jnp.sqrt((time * time - 1) / square)], -1)


class LorentzAggregation(nn.Module):
    """The Lorentz centroid s / sqrt(|<s, s>|) of s = sum_j w_ij x_j.

    With attention w_ij is the edge's weight times sigmoid((2 + 2 <q_i, k_j>) / scale + bias); parameters `key_linear`, `query_linear`,
    `scale` [], `bias` [].
    """

    use_att: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], graph: Graph, deterministic: bool = True) -> Float[Array, "n d"]:
        weights = edge_weights(graph, x)
        if self.use_att:
            width = x.shape[-1]
            query = LorentzLinear(width, name="query_linear")(x, deterministic)
            key = LorentzLinear(width, name="key_linear")(x, deterministic)
            scale = self.param("scale", nn.initializers.constant(math.sqrt(width)), ())
            bias = self.param("bias", nn.initializers.constant(20.0), ())
            weights = weights * nn.sigmoid((2 + 2 * edge_dot(flip(query), key, graph)) / scale + bias)
        s = aggregate(weights, x, graph)
        square = jnp.abs((flip(s) * s).sum(-1, keepdims=True))
        return s / jnp.sqrt(jnp.maximum(square, 1e-8))


class LorentzGraphConvolution(nn.Module):
    """HyboNet's layer: a linear map, then aggregation."""

    features: int
    use_bias: bool = True
    dropout: float = 0.0
    use_att: bool = False
    act: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n in"] | Lifted, graph: Graph, deterministic: bool = True) -> Float[Array, "n out"]:
        h = LorentzLinear(self.features, self.use_bias, self.dropout, self.act, name="linear")(x, deterministic)
        return LorentzAggregation(self.use_att, name="agg")(h, graph, deterministic)


def random_points(key: Array, shape: tuple[int, int], dtype: object = jnp.float32) -> Float[Array, "n d"]:
    """Points at distance 1 from the origin."""
    u = jax.random.normal(key, (shape[0], shape[1] - 1))
    return lift(u / jnp.linalg.norm(u, axis=-1, keepdims=True))


class LorentzDecoder(nn.Module):
    """Logits 2 + 2 <h, cls_k> + bias_k: minus the squared Lorentzian distance to each class's point, shifted.

    Parameters `cls` [classes, d], points of the hyperboloid, and `bias` [classes].
    """

    n_classes: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, h: Float[Array, "n d"]) -> Float[Array, "n classes"]:
        logits = 2 + 2 * h @ flip(self.param("cls", random_points, (self.n_classes, h.shape[-1]))).T
        return logits + self.param("bias", nn.initializers.zeros, (self.n_classes,))[None] if self.use_bias else logits
