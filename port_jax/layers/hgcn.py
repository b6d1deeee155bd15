"""HGCN's layers: linear maps, neighbourhood aggregation and activation, between curvatures.

Spaces are `PoincareBall(c)`, `Lorentz(1 / c)` for HGCN's hyperboloid, and `Euclidean`. On the hyperboloid W, b and the attention
have ambient width, as the original stores them; their time entries have no effect.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.graphs import Graph, aggregate, gather_receivers, gather_senders, segment_sum
from port_jax.layers.activations import ACTIVATIONS
from port_jax.layers.gcn import edge_weights
from port_jax.manifolds import Euclidean, Lorentz, Manifold, PoincareBall, trig

__all__ = ["LONGEST", "SPACES", "HgcnAggregation", "HgcnLayer", "HgcnLinear", "exp0", "local_exp", "space", "within"]

SPACES = ("PoincareBall", "Hyperboloid", "Euclidean")
LONGEST = 15.0
"""The length to which HGCN shortens sqrt(c) u before sinh and cosh, which would overflow in float32 beyond it."""


def space(name: str, c: Any) -> Manifold:
    """The manifold of curvature -c that HGCN calls by this name; c has one element."""
    if name == "Euclidean":
        return Euclidean()
    c = c if isinstance(c, float) else jnp.reshape(c, ())
    return PoincareBall(c) if name == "PoincareBall" else Lorentz(1 / c)


def exp0(manifold: Manifold, u: Float[Array, "*batch d"]) -> Float[Array, "*batch ambient"]:
    """exp_0(u), with u shortened to sqrt(c) |u| = 15 on the hyperboloid."""
    return manifold.from_tangent0(u, longest=LONGEST)


def within(manifold: Manifold, u: Float[Array, "*batch d"]) -> Float[Array, "*batch 1"]:
    """The r <= 1 with log_0(exp0(u)) = r u."""
    return manifold.reach(u, LONGEST)


class HgcnLinear(nn.Module):
    """exp_0(W log_0(x)) (+) exp_0(b) (HGCN, arXiv 1910.12933, eq. 7 and 8); in training, connections of W are dropped.

    Parameters `kernel` [in, out] and `bias` [out], which exists even if it is not used.
    """

    features: int
    use_bias: bool = True
    dropout: float = 0.0

    @nn.compact
    def __call__(self, manifold: Manifold, u: Float[Array, "n in"], deterministic: bool = True) -> Float[Array, "n out"]:
        """The points whose log_0 is that of exp0(u), in d coordinates u -> points."""
        skip = manifold.ambient
        kernel = self.param("kernel", nn.initializers.variance_scaling(2.0, "fan_avg", "uniform"), (u.shape[-1] + skip, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        kernel = nn.Dropout(self.dropout)(kernel, deterministic=deterministic)
        # the time parts of u and W u are 0 and ignored: W without its time row and column saves a copy of u with one more column
        z = exp0(manifold, within(manifold, u) * (u @ kernel[skip:, skip:]))
        return manifold.mobius_add(z, exp0(manifold, manifold.coordinates0(bias)[None])) if self.use_bias else z


class HgcnAggregation(nn.Module):
    """Weighted sums of neighbours in the tangent space at the origin, or with local attention in the tangent space at each receiver.

    Points -> log_0 of points, in d coordinates.

    Attention multiplies the edge's weight by sigmoid(w . [u_i, u_j] + b), without softmax; parameters `att/{kernel [2 in, 1], bias [1]}`.
    """

    use_att: bool = False
    local_agg: bool = False

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "n d"], graph: Graph) -> Float[Array, "n d"]:
        u = manifold.to_tangent0(x)
        weights = edge_weights(graph, x)
        if self.use_att:
            weights = weights * nn.sigmoid(_PairLogits(name="att")(manifold.from_coordinates0(u), graph))
        if not (self.use_att and self.local_agg):
            total = aggregate(weights, u, graph)
            return within(manifold, total) * total
        here, there = gather_receivers(x, graph), gather_senders(x, graph)
        logs = manifold.logmap(here, there)
        if isinstance(manifold, PoincareBall):  # HGCN's code does this on the ball only; see `local_exp`
            logs = logs * (manifold.lambda_x(here, keepdim=True) / manifold.lambda_x(jax.lax.stop_gradient(here), keepdim=True))
            return manifold.to_tangent0(local_exp(manifold, x, segment_sum(weights[:, None] * logs, graph)))
        return manifold.to_tangent0(manifold.expmap(x, segment_sum(weights[:, None] * logs, graph)))


class _PairLogits(nn.Module):
    """w . [u_i, u_j] + b for each edge j -> i."""

    @nn.compact
    def __call__(self, u: Float[Array, "n d"], graph: Graph) -> Float[Array, " E"]:
        width = u.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_uniform(), (2 * width, 1))[:, 0]
        bias = self.param("bias", nn.initializers.zeros, (1,))
        return gather_receivers(u @ kernel[:width], graph) + gather_senders(u @ kernel[width:], graph) + bias[0]


def local_exp(ball: PoincareBall, x: Float[Array, "n d"], s: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """exp_s(x) for the sum s of tangents at x: base and tangent in the order in which HGCN's code passes them.

    s need not lie in the ball, hence lambda_s = 2 / max(1 - c |s|^2, 1e-15). As everywhere in that code, lambda passes no gradient to s.
    """
    c = jnp.asarray(ball.c, x.dtype)
    half = 1 / jnp.maximum(1 - c * (jax.lax.stop_gradient(s) ** 2).sum(-1, keepdims=True), 1e-15)
    half = jnp.minimum(half, 1e8)  # tanh is 1 long before that, and half^2 stays finite in float32
    step = half * x * trig.tan_ratio(-c * half * half * (x * x).sum(-1, keepdims=True))
    ss, yy, sy = ((a * b).sum(-1, keepdims=True) for a, b in ((s, s), (step, step), (s, step)))
    above = (1 + 2 * c * sy + c * yy) * s + (1 - c * ss) * step
    return ball.projx(above / jnp.maximum(1 + 2 * c * sy + c * c * ss * yy, 1e-15))


class HgcnLayer(nn.Module):
    """HGCN's layer, or HNN's without `aggregate`: linear map, aggregation, and act(log_0(x)), to the next curvature.

    Layers pass u on instead of the points exp0(u), because the next one begins with log_0.
    """

    features: int
    act: str = "relu"
    use_bias: bool = True
    dropout: float = 0.0
    aggregate: bool = True
    use_att: bool = False
    local_agg: bool = False

    @nn.compact
    def __call__(self, manifold: Manifold, u: Float[Array, "n in"], graph: Graph, deterministic: bool = True) -> Float[Array, "n out"]:
        """Tangents at the origin of `manifold` -> tangents at the origin of the next one."""
        h = HgcnLinear(self.features, self.use_bias, self.dropout, name="linear")(manifold, u, deterministic)
        if not self.aggregate:
            return ACTIVATIONS[self.act](manifold.to_tangent0(h))
        return ACTIVATIONS[self.act](HgcnAggregation(self.use_att, self.local_agg, name="agg")(manifold, h, graph))
