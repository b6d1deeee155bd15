"""Hyperbolic graph attention layers, by presets: `hat`, `htgn`, `gil`, `markov_blanket`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.graphs import Graph, aggregate, gather_receivers, gather_senders, segment_softmax, segment_sum
from port_jax.layers.activations import ACTIVATIONS, leaky_relu
from port_jax.layers.tangent import HypLinear
from port_jax.manifolds import Manifold

__all__ = ["BlanketAttention", "BlanketWeights", "Masks", "Node", "OriginAttention", "blanket_pair", "dropout_masks"]

Masks = Mapping[str, Float[Array, "..."]]
_glorot = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


def dropout_masks(module: nn.Module, shapes: Mapping[str, tuple[float, tuple[int, ...]]], deterministic: bool) -> Masks:
    """A mask of 0 and 1 / (1 - rate) for each name whose rate is above 0, drawn from the stream "dropout"; none if deterministic."""
    if deterministic:
        return {}
    return {
        name: jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, shape) / (1 - rate)
        for name, (rate, shape) in shapes.items()
        if rate > 0
    }


class OriginAttention(nn.Module):
    """Attention aggregated in the tangent space at the origin: presets `hat`, `htgn` and `gil`.

    u = log_0(z) viewed as [N, H, C]; self loops are removed, then one per node is added. The score of j -> i is

    - hat:  -sqrt(sum_h d(exp_0 u_i^h, exp_0 u_j^h)^2 + 1e-8), shared by the heads (arXiv 1912.03046)
    - htgn: LeakyReLU(a_i . u_i + a_j . u_j) (arXiv 2107.03767)
    - gil:  LeakyReLU((a . [u_i, u_j]) softmax_j(d(z_i, z_j))), without that softmax if `distance` is off (arXiv 2010.12135)

    With `attend` off there are no scores, and every neighbour and the node itself have weight 1 (gil's `atten=0`).
    Each node's own score is kept apart from those of the edges, so that the edge arrays stay as the graph has them.
    """

    preset: str
    features: int
    heads: int
    use_bias: bool = True
    activation: str = "relu"
    concat: bool = True
    negative_slope: float = 0.2
    distance: bool = True
    attend: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __call__(self, manifold: Manifold, manifold_out: Manifold, x: Float[Array, "n ambient"], graph: Graph,
                 node_features: Float[Array, "n f"] | None = None, masks: Masks | None = None,
                 deterministic: bool = True) -> Float[Array, "n out"]:  # fmt: skip
        """x on `manifold` -> points on `manifold_out`. `masks` ("weight", "edge", "self") replace the ones drawn at random."""
        u = manifold.to_tangent0(x)
        return manifold_out.from_tangent0(self.of_tangents(manifold, u, graph, node_features, masks, deterministic))

    @nn.compact
    def of_tangents(self, manifold: Manifold, u: Float[Array, "n in"], graph: Graph, node_features: Float[Array, "n f"] | None = None,
                    masks: Masks | None = None, deterministic: bool = True) -> Float[Array, "n out"]:  # fmt: skip
        """The same from log_0 of the points on `manifold` to log_0 of those on the next one."""
        del node_features  # used by BlanketAttention only
        width = self.heads * self.features
        if masks is None:
            in_features = u.shape[-1]
            edges, nodes = (graph.senders.shape[0], self.heads), (graph.num_nodes, self.heads)
            rates = {
                "weight": (self.dropout, (in_features, width)),
                "edge": (self.attention_dropout, edges),
                "self": (self.attention_dropout, nodes),
            }
            masks = dropout_masks(self, rates, deterministic)
        z = HypLinear(width, self.use_bias, name="linear").of_tangents(manifold, u, masks.get("weight"))
        u = manifold.to_tangent0(z).reshape(-1, self.heads, self.features)
        if self.attend:
            logits, own = self._scores(manifold, z, u, graph)
            alpha, alpha_own = segment_softmax(logits, graph, self_logits=own, mask=~graph.loop_mask)
        else:
            alpha, alpha_own = (~graph.loop_mask).astype(u.dtype)[:, None], jnp.ones((graph.num_nodes, 1), u.dtype)
        if "edge" in masks and self.attend:
            alpha, alpha_own = alpha * masks["edge"], alpha_own * masks["self"]
        alpha = jnp.broadcast_to(alpha, (alpha.shape[0], self.heads))
        out = aggregate(alpha, u, graph) + alpha_own[..., None] * u
        out = out.reshape(-1, width) if self.concat else out.mean(1)
        if self.preset == "htgn":  # HTGN goes to the manifold and back before it activates
            out = manifold.within_reach(out)
        elif self.use_bias:
            out = out + self.param("bias", nn.initializers.zeros, (out.shape[-1],))[None]
        return ACTIVATIONS[self.activation](out)

    def _scores(self, manifold: Manifold, z: Float[Array, "n ambient"], u: Float[Array, "n h c"], graph: Graph):
        """Logits of the edges [E, H] (or [E, 1]) and of each node for itself [N, H] (or [N, 1])."""
        if self.preset == "hat":
            points = manifold.from_tangent0(u)
            square = manifold.dist2(gather_receivers(points, graph), gather_senders(points, graph)).sum(-1, keepdims=True)
            return -jnp.sqrt(square + 1e-8), jnp.full((u.shape[0], 1), -1e-4, u.dtype)
        if self.preset == "htgn":
            receiver = jnp.einsum("nhc,hc->nh", u, self.param("att_i", _glorot, (1, *u.shape[1:]))[0])
            sender = jnp.einsum("nhc,hc->nh", u, self.param("att_j", _glorot, (1, *u.shape[1:]))[0])
        else:
            att = self.param("att", _glorot, (1, self.heads, 2 * self.features))[0]
            receiver = jnp.einsum("nhc,hc->nh", u, att[:, : self.features])
            sender = jnp.einsum("nhc,hc->nh", u, att[:, self.features :])
        logits, own = gather_receivers(receiver, graph) + gather_senders(sender, graph), receiver + sender
        if self.preset == "gil" and self.distance:
            far = manifold.dist(gather_receivers(z, graph), gather_senders(z, graph), keepdim=True)
            own_far = jnp.zeros((u.shape[0], 1), u.dtype)
            near, near_own = segment_softmax(far, graph, self_logits=own_far, mask=~graph.loop_mask)
            logits, own = logits * near, own * near_own
        return leaky_relu(logits, self.negative_slope), leaky_relu(own, self.negative_slope)


class Node(NamedTuple):
    """What a layer knows of one node: its point z, log_0 z, and its further features."""

    point: Float[Array, " ambient"]
    tangent: Float[Array, " c"]
    features: Float[Array, " f"] | None


class BlanketWeights(NamedTuple):
    """Attention vectors [H, ...] and the message matrix [C + F + E, C]; None where the layer does not use them."""

    att_i: Float[Array, "h c"]
    att_j: Float[Array, "h c"]
    att_dist: Float[Array, "h 1"] | None = None
    att_node_i: Float[Array, "h f"] | None = None
    att_node_j: Float[Array, "h f"] | None = None
    att_edge: Float[Array, "h e"] | None = None
    message: Float[Array, "wide c"] | None = None


def blanket_pair(manifold: Manifold, weights: BlanketWeights, target: Node, other: Node, edge: Float[Array, " e"] | None):
    """The score [H] and message [C] of one neighbour for one target; use `vmap` for a graph.

    e = a_i . log_0 z_i + a_j . log_0 z_j (+ b_i . F_i + b_j . F_j + b_e . E_ij + a_d d(z_i, z_j)),
    m = P_{z_i -> 0} log_{z_i} z_j, with features m <- [m, F_j, E_ij] W. The transport to the origin comes before W, because
    coordinates of different tangent spaces do not mix.
    """
    score = weights.att_i @ target.tangent + weights.att_j @ other.tangent
    message = manifold.coordinates0(manifold.transp0back(target.point, manifold.logmap(target.point, other.point)))
    if weights.att_node_i is not None and weights.att_node_j is not None and target.features is not None and other.features is not None:
        score = score + weights.att_node_i @ target.features + weights.att_node_j @ other.features
        message = jnp.concatenate([message, other.features])
    if weights.att_edge is not None and edge is not None:
        score = score + weights.att_edge @ edge
        message = jnp.concatenate([message, edge])
    if weights.att_dist is not None:
        score = score + weights.att_dist[:, 0] * manifold.dist(target.point, other.point)
    return score, message if weights.message is None else message @ weights.message


class BlanketAttention(nn.Module):
    """Attention in the tangent space at each target, over its Markov blanket: preset `markov_blanket`.

    alpha = softmax of LeakyReLU(score) over the blanket of i, and out_i = exp_{z_i} P_{0 -> z_i} mean_h sum_j alpha_ij^h m_ij,
    with score and message of `blanket_pair`. A node with an empty blanket does not move.
    """

    features: int
    heads: int
    use_bias: bool = True
    activation: str = "relu"
    negative_slope: float = 0.2
    distance: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __call__(self, manifold: Manifold, manifold_out: Manifold, x: Float[Array, "n ambient"], graph: Graph,
                 node_features: Float[Array, "n f"] | None = None, masks: Masks | None = None,
                 deterministic: bool = True) -> Float[Array, "n out"]:  # fmt: skip
        """x on `manifold` -> points on `manifold_out`. `masks` ("weight", "edge") replace the ones drawn at random."""
        u = manifold.to_tangent0(x)
        return manifold_out.from_tangent0(self.of_tangents(manifold, u, graph, node_features, masks, deterministic))

    @nn.compact
    def of_tangents(self, manifold: Manifold, u: Float[Array, "n in"], graph: Graph, node_features: Float[Array, "n f"] | None = None,
                    masks: Masks | None = None, deterministic: bool = True) -> Float[Array, "n out"]:  # fmt: skip
        """The same from log_0 of the points on `manifold` to log_0 of those on the next one."""
        if masks is None:
            in_features = u.shape[-1]
            edges = (graph.senders.shape[0], self.heads)
            rates = {"weight": (self.dropout, (in_features, self.features)), "edge": (self.attention_dropout, edges)}
            masks = dropout_masks(self, rates, deterministic)
        z = HypLinear(self.features, self.use_bias, name="linear").of_tangents(manifold, u, masks.get("weight"))
        nodes = Node(z, manifold.to_tangent0(z), node_features)
        targets = jax.tree.map(lambda a: gather_receivers(a, graph), nodes)
        others = jax.tree.map(lambda a: gather_senders(a, graph), nodes)
        weights = self._weights(node_features, graph.edge_features)
        pairs = jax.vmap(blanket_pair, in_axes=(None, None, 0, 0, 0))
        scores, messages = pairs(manifold, weights, targets, others, graph.edge_features)
        alpha = segment_softmax(leaky_relu(scores, self.negative_slope), graph)
        if "edge" in masks:
            alpha = alpha * masks["edge"]
        total = segment_sum(alpha.mean(-1, keepdims=True) * messages, graph)
        out = manifold.expmap(z, manifold.transp0(z, manifold.from_coordinates0(total)))
        return ACTIVATIONS[self.activation](manifold.to_tangent0(out))

    def _weights(self, node_features: Float[Array, "n f"] | None, edge_features: Float[Array, "m e"] | None) -> BlanketWeights:
        def att(name: str, width: int) -> Float[Array, "h width"]:
            return self.param(name, _glorot, (1, self.heads, width))[0]

        f = 0 if node_features is None else node_features.shape[-1]
        e = 0 if edge_features is None else edge_features.shape[-1]
        wide = self.features + f + e
        return BlanketWeights(
            att("att_i", self.features),
            att("att_j", self.features),
            att("att_dist", 1) if self.distance else None,
            att("att_node_i", f) if f else None,
            att("att_node_j", f) if f else None,
            att("att_edge", e) if e else None,
            self.param("message", nn.initializers.lecun_normal(), (wide, self.features)) if wide > self.features else None,
        )
