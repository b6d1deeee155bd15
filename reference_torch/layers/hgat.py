"""One hyperbolic graph attention layer, by presets: `hat`, `htgn`, `gil`, `markov_blanket`."""

from __future__ import annotations

import torch
from geoopt import Lorentz
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.graphs.graph import Graph, segment_softmax, segment_sum
from reference_torch.layers.tangent import HypLinear, from_tangent0, pad_time, to_tangent0

ACTIVATIONS = {"none": lambda u: u, "relu": F.relu, "elu": F.elu, "tanh": torch.tanh, "leaky_relu": F.leaky_relu}


def _glorot(*shape: int) -> nn.Parameter:
    bound = (6 / (shape[-2] + shape[-1])) ** 0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class OriginAttention(nn.Module):
    """Attention aggregated in the tangent space at the origin: presets `hat`, `htgn` and `gil`.

    u = log_0(z) viewed as [N, H, C]; self loops are removed, then one per node is added. The score of j -> i is
    hat:  -sqrt(sum_h d(exp_0 u_i^h, exp_0 u_j^h)^2 + 1e-8), shared by the heads (arXiv 1912.03046)
    htgn: LeakyReLU(a_i . u_i + a_j . u_j) (arXiv 2107.03767)
    gil:  LeakyReLU((a . [u_i, u_j]) softmax_j(d(z_i, z_j))), or without the softmax where `distance` is off (arXiv 2010.12135)
    """

    def __init__(self, preset: str, in_features: int, features: int, heads: int, *, bias=True, activation="relu", concat=True,
                 negative_slope=0.2, distance=True):  # fmt: skip
        super().__init__()
        self.preset, self.heads, self.features, self.concat = preset, heads, features, concat
        self.activation, self.negative_slope, self.distance = ACTIVATIONS[activation], negative_slope, distance
        self.linear = HypLinear(in_features, heads * features, bias)
        if preset == "htgn":
            self.att_i, self.att_j = _glorot(1, heads, features), _glorot(1, heads, features)
        if preset == "gil":
            self.att = _glorot(1, heads, 2 * features)
        width = heads * features if concat else features
        self.bias = nn.Parameter(torch.zeros(width)) if bias and preset != "htgn" else None

    def scores(self, manifold, z: Tensor, u: Tensor, senders: Tensor, receivers: Tensor) -> Tensor:
        """Logits [E, H] or [E, 1]."""
        if self.preset == "hat":
            points = from_tangent0(manifold, u)
            square = manifold.dist(points[receivers], points[senders]) ** 2
            return -(square.sum(-1, keepdim=True) + 1e-8).sqrt()
        if self.preset == "htgn":
            logits = (u * self.att_i).sum(-1)[receivers] + (u * self.att_j).sum(-1)[senders]
            return F.leaky_relu(logits, self.negative_slope)
        logits = (torch.cat([u[receivers], u[senders]], -1) * self.att).sum(-1)
        if self.distance:
            far = manifold.dist(z[receivers], z[senders])
            logits = logits * segment_softmax(far, receivers, len(z))[:, None]
        return F.leaky_relu(logits, self.negative_slope)

    def forward(self, manifold, manifold_out, x: Tensor, graph: Graph, node_features=None, masks=None) -> Tensor:
        """x on `manifold` -> points on `manifold_out`; `masks` multiply W and the coefficients ("weight", "edge", "self")."""
        masks = masks or {}
        z = self.linear(manifold, x, masks.get("weight"))
        u = to_tangent0(manifold, z).view(-1, self.heads, self.features)
        senders, receivers, kept = graph.loops_replaced()
        alpha = segment_softmax(self.scores(manifold, z, u, senders, receivers), receivers, graph.num_nodes)
        if "edge" in masks:
            alpha = alpha * torch.cat([masks["edge"][kept], masks["self"]])
        out = segment_sum(alpha[..., None] * u[senders], receivers, graph.num_nodes)
        out = out.flatten(1) if self.concat else out.mean(1)
        if self.preset == "htgn":
            out = to_tangent0(manifold, from_tangent0(manifold, out))
        if self.bias is not None:
            out = out + self.bias
        return from_tangent0(manifold_out, self.activation(out))


class BlanketAttention(nn.Module):
    """Attention in the tangent space at each target, over its Markov blanket: preset `markov_blanket`.

    e_ij = LeakyReLU(a . [log_0 z_i, log_0 z_j, F_i, F_j, E_ij, d(z_i, z_j)]), softmax over the blanket of i, and
    m_ij = P_{z_i -> 0} log_{z_i} z_j, with features m_ij <- W_msg [m_ij, F_j, E_ij],
    out_i = exp_{z_i} P_{0 -> z_i} mean_h sum_j alpha_ij^h m_ij. Features, edge features and distance are optional.
    """

    def __init__(self, in_features: int, features: int, heads: int, *, bias=True, activation="relu", negative_slope=0.2,
                 distance=False, node_features=0, edge_features=0):  # fmt: skip
        super().__init__()
        self.activation, self.negative_slope = ACTIVATIONS[activation], negative_slope
        self.linear = HypLinear(in_features, features, bias)
        self.att_i, self.att_j = _glorot(1, heads, features), _glorot(1, heads, features)
        self.att_dist = _glorot(1, heads, 1) if distance else None
        self.att_node_i = _glorot(1, heads, node_features) if node_features else None
        self.att_node_j = _glorot(1, heads, node_features) if node_features else None
        self.att_edge = _glorot(1, heads, edge_features) if edge_features else None
        wide = features + node_features + edge_features
        self.message = nn.Linear(wide, features, bias=False) if wide > features else None

    def forward(self, manifold, manifold_out, x: Tensor, graph: Graph, node_features=None, masks=None) -> Tensor:
        """Points x [N, in] on `manifold` to points on `manifold_out`; `masks`: by name, factors in place of random dropout."""
        masks = masks or {}
        z = self.linear(manifold, x, masks.get("weight"))
        u = to_tangent0(manifold, z)[:, None]
        i, j = graph.receivers, graph.senders
        logits = (u * self.att_i).sum(-1)[i] + (u * self.att_j).sum(-1)[j]
        messages = manifold.transp0back(z[i], manifold.logmap(z[i], z[j]))
        parts = [messages[..., 1:] if isinstance(manifold, Lorentz) else messages]
        if self.att_node_i is not None and node_features is not None:
            side = node_features[:, None]
            logits = logits + (side * self.att_node_i).sum(-1)[i] + (side * self.att_node_j).sum(-1)[j]
            parts.append(node_features[j])
        if self.att_edge is not None and graph.edge_features is not None:
            logits = logits + (graph.edge_features[:, None] * self.att_edge).sum(-1)
            parts.append(graph.edge_features)
        if self.att_dist is not None:
            logits = logits + (manifold.dist(z[i], z[j])[:, None, None] * self.att_dist).sum(-1)
        alpha = segment_softmax(F.leaky_relu(logits, self.negative_slope), i, graph.num_nodes)
        if "edge" in masks:
            alpha = alpha * masks["edge"]
        message = self.message(torch.cat(parts, -1)) if self.message is not None else parts[0]
        total = segment_sum(alpha.mean(-1, keepdim=True) * message, i, graph.num_nodes)
        out = manifold.expmap(z, manifold.transp0(z, pad_time(manifold, total)))
        return from_tangent0(manifold_out, self.activation(to_tangent0(manifold, out)))
