"""Euclidean layers of HGCN's code base: dense, graph convolution, graph attention."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.graphs import Graph, aggregate, gather_receivers, gather_senders, segment_softmax
from port_jax.layers.activations import ACTIVATIONS, leaky_relu

__all__ = ["Dense", "GraphAttention", "edge_weights"]

_glorot_normal = nn.initializers.variance_scaling(1.414**2, "fan_avg", "normal")


def edge_weights(graph: Graph, like: Float[Array, "*batch d"]) -> Float[Array, " E"]:
    """The graph's weights in the dtype of `like`. Raises ValueError if it has none."""
    if graph.weights is None:
        raise ValueError("graph.weights: found none; this model sums with a normalised adjacency: give weights, or use Graph.normalized()")
    return graph.weights.astype(like.dtype)


class Dense(nn.Module):
    """act(dropout(W x + b)). Parameters `linear/{kernel [in, out], bias [out]}`."""

    features: int
    act: str = "none"
    use_bias: bool = True
    dropout: float = 0.0
    convolve: bool = False
    """Whether to sum over neighbours before activation: act(A dropout(W x + b)) with the graph's weights as A (GCN, arXiv 1609.02907)."""

    @nn.compact
    def __call__(self, x: Float[Array, "n in"], graph: Graph, deterministic: bool = True) -> Float[Array, "n out"]:
        h = nn.Dense(self.features, use_bias=bool(self.use_bias), name="linear")(x)
        h = nn.Dropout(self.dropout)(h, deterministic=deterministic)
        return ACTIVATIONS[self.act](aggregate(edge_weights(graph, h), h, graph) if self.convolve else h)


class _Head(nn.Module):
    """The parameters of one attention head: `W` [in, out] and `a` [1, 2 out]."""

    features: int

    @nn.compact
    def __call__(self, width: int) -> tuple[Float[Array, "in out"], Float[Array, "two out"]]:
        kernel = self.param("W", _glorot_normal, (width, self.features))
        return kernel, self.param("a", _glorot_normal, (1, 2 * self.features)).reshape(2, self.features)


class GraphAttention(nn.Module):
    """Heads side by side, each act(sum_j alpha_ij h_j) with h = x W and alpha_ij = softmax_j(-LeakyReLU(a . [h_i, h_j])).

    GAT (arXiv 1710.10903) with the sign of the scores as in HGCN's code. The weights of the graph are not used. Dropout acts on the
    input, on alpha and on the output. Parameters `attention_{k}/{W [in, out], a [1, 2 out]}`.
    """

    features: int
    heads: int = 1
    act: str = "elu"
    negative_slope: float = 0.2
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "n in"], graph: Graph, deterministic: bool = True) -> Float[Array, "n out"]:
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        x = drop(x)
        heads = [_Head(self.features, name=f"attention_{k}")(x.shape[-1]) for k in range(self.heads)]
        h = (x @ jnp.concatenate([kernel for kernel, _ in heads], 1)).reshape(-1, self.heads, self.features)
        to, fro = jnp.moveaxis(jnp.stack([a for _, a in heads]), 1, 0)
        logits = gather_receivers((h * to[None]).sum(-1), graph) + gather_senders((h * fro[None]).sum(-1), graph)
        alpha = drop(segment_softmax(-leaky_relu(logits, self.negative_slope), graph))
        out = ACTIVATIONS[self.act](aggregate(alpha, h, graph))
        return drop(out.reshape(len(x), -1))
