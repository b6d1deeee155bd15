"""The layers of Hypformer (Yang et al., "Hypformer: exploring efficient transformer fully in hyperbolic space", KDD 2024).

Linear maps, layer norm, ReLU and dropout are `LorentzFullyConnected`, `SpaceLayerNorm`, `SpaceActivation` and `SpaceDropout`. Here are the
lifting of features, attention between all nodes, the branch over the graph, and the classifier, each with the formulas of the authors'
code and with those that are right where these differ.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.checks import as_numbers, require_choice
from port_jax.graphs import Graph, aggregate, gather_receivers, gather_senders, segment_sum
from port_jax.layers.attention import closeness
from port_jax.layers.hybonet import LONGEST, flip
from port_jax.layers.linear import LorentzFullyConnected
from port_jax.layers.models_of_space import require_time
from port_jax.layers.standard import BatchNorm
from port_jax.manifolds import Manifold, trig
from port_jax.manifolds.hyperboloid.ambient import onto

__all__ = ["ATTENTIONS", "ClassPoints", "GraphBranch", "HypformerAttention", "degree_weights", "focused", "lifted_features"]

ATTENTIONS = ("linear_focused", "full")
SHORTEST, LEAK = 1e-9, 1e-8
"""The least square of a length in the code's roots, and the part of a gradient that passes below it."""
SMALL = 1e-6
"""What is added to the features of queries and keys, and to the sum of the weights of linear attention."""


def lifted_features(
    manifold: Manifold, x: Float[Array, "*batch d"], time: Float[Array, "*batch 1"] | float = 1.0
) -> Float[Array, "*batch d+1"]:
    """The point of a hyperboloid with the space part √k sinh(r) x/n, r = min(n, 10)/√k, n² = |x|² - time², at least 1e-9.

    With time 0 this is exp_0(x). Hypformer's code puts a **1** before the features where the tangent vector has a 0, and takes Minkowski's
    length of the whole: features of length 1 or less come out as they are, and longer ones shorter than by exp_0. Below the bound a part
    of 1e-8 of the gradient by n² passes, as in the code. ValueError for a manifold that is not a hyperboloid.
    """
    x = as_numbers("x", x)
    k = jnp.asarray(_hyperboloid("lifted_features", manifold).k, x.dtype)
    square = (x * x).sum(-1, keepdims=True) - jnp.asarray(time, x.dtype) ** 2
    leaking = SHORTEST + LEAK * (square - jax.lax.stop_gradient(square))
    square = jnp.where(square >= SHORTEST, square, leaking)
    far = square > LONGEST**2
    factor = trig.sin_ratio(-jnp.where(far, LONGEST**2, square) / k)
    factor = factor * jnp.where(far, LONGEST / jnp.sqrt(jnp.where(far, square, 1)), 1)
    return manifold.projx(manifold.from_coordinates0(factor * x))


def _hyperboloid(name: str, manifold: Manifold) -> Any:
    if not manifold.ambient:
        raise ValueError(f"{name} needs a hyperboloid, and got {manifold!r}: pass a Lorentz")
    return manifold


def focused(f: Float[Array, "*batch d"], power: float) -> Float[Array, "*batch d"]:
    """|f| f^p/|f^p| of positive f: the length of f, in a direction that is nearer to its largest entries.

    f^p is taken of f over its largest entry, which changes nothing but that small numbers have high powers.
    """
    top = jax.lax.stop_gradient(f.max(-1, keepdims=True))
    sharp = (f / top) ** power
    return sharp * jnp.sqrt((f * f).sum(-1, keepdims=True) / (sharp * sharp).sum(-1, keepdims=True))


class HypformerAttention(nn.Module):
    """Attention of each point of a hyperboloid to all of them, by one of two formulas. Linear maps W are those of `LorentzFullyConnected`.

    linear_focused, with φ(x) = `focused`((relu(x_s) + 1e-6)/(|norm_scale| + offset), power), and as a point the lift of

        o_i = φ(q_i)ᵀ Σ_j φ(p_j) v_jᵀ / (φ(q_i)ᵀ Σ_j φ(p_j) + 1e-6) + A v_i + a

    where q, p and v are W_q x, W_k x, and the space part of W_v x. Heads are averaged, or with `concat` joined and mapped by
    `final_linear`. Its time and memory grow linearly with the number of points.

    full: α_ij = softmax_j((2 + 2⟨q_i, p_j⟩/k)/scale + bias), of each head the centroid of the values, and then that of the heads. Without
    `over_k` the product is not divided by k, as in the variant that its authors offer for reuse.

    x: [*batch, n, d + 1], result [*batch, n, features + 1]. Parameters: `Wq_h`, `Wk_h` and, with `use_weight`, `Wv_h` of each head h, each
    `linear/{kernel, bias}`; linear_focused: `norm_scale` [], `v_map_mlp/{kernel, bias}`, perhaps `final_linear/{kernel, bias}`; full:
    `scale` [1] and `bias` [], which a softmax does not see.
    """

    features: int
    heads: int = 1
    kind: str = "linear_focused"
    use_weight: bool = True
    concat: bool = False
    power: float = 2.0
    offset: float = 0.0
    over_k: bool = True

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch n d+1"]) -> Float[Array, "*batch n out+1"]:
        require_time(self, manifold, "points mapped by ball_to_hyperboloid")
        require_choice("kind", self.kind, ATTENTIONS)
        x = as_numbers("x", x)
        query, key = (self._heads(manifold, name, x) for name in ("Wq", "Wk"))
        value = self._heads(manifold, "Wv", x) if self.use_weight else jnp.broadcast_to(x[..., None, :], (*query.shape[:-1], x.shape[-1]))
        return self._full(manifold, query, key, value) if self.kind == "full" else self._linear(manifold, query, key, value)

    def _heads(self, manifold: Manifold, name: str, x: Float[Array, "*batch n d+1"]) -> Float[Array, "*batch n h c+1"]:
        return jnp.stack([LorentzFullyConnected(self.features, name=f"{name}_{h}")(manifold, x) for h in range(self.heads)], -2)

    def _full(self, manifold: Manifold, query: Array, key: Array, value: Array) -> Array:
        k = jnp.asarray(_hyperboloid("attention", manifold).k, query.dtype)
        scale = self.param("scale", nn.initializers.constant(math.sqrt(self.features)), (1,)).reshape(())
        bias = self.param("bias", nn.initializers.zeros, ())
        alpha = jax.nn.softmax(closeness(query, key) / (k * scale if self.over_k else scale) + bias, -1)
        heads = onto(jnp.einsum("...hnm,...mhc->...nhc", alpha, value), k)
        return onto(heads.mean(-2), k)

    def _linear(self, manifold: Manifold, query: Array, key: Array, value: Array) -> Array:
        size = jnp.abs(self.param("norm_scale", nn.initializers.ones, ())) + self.offset
        query, key = (focused((jax.nn.relu(a[..., 1:]) + SMALL) / size, self.power) for a in (query, key))
        value = value[..., 1:]
        numerator = jnp.einsum("...nhm,...hmd->...nhd", query, jnp.einsum("...nhm,...nhd->...hmd", key, value))
        total = jnp.einsum("...nhm,...hm->...nh", query, key.sum(-3))[..., None]
        out = numerator / (total + SMALL) + nn.Dense(self.features, name="v_map_mlp")(value)
        joined = nn.Dense(self.features, name="final_linear")(out.reshape(*out.shape[:-2], -1)) if self.concat else out.mean(-2)
        return manifold.projx(manifold.from_coordinates0(joined))


class ClassPoints(nn.Module):
    """Logits by a point of a hyperboloid for each class: -|x - c|²_L - bias = 2k + 2⟨x, c⟩ - bias.

    over_k: 2k + 2⟨x, c⟩/**k** - bias, as in Hypformer's medium variant. bounded: -max(|x - c|²_L + bias, 0), as in its other two, whose
    gradient is 0 at the bound. Parameters: `cls` [classes, d + 1], **points** of the manifold, and `bias` [classes]. The points start as
    in the code: a random vector with its time, divided by the length of all of it, and lifted as features are.
    """

    classes: int
    over_k: bool = False
    bounded: bool = False

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch d+1"]) -> Float[Array, "*batch classes"]:
        require_time(self, manifold, "Hyperplanes")
        x = as_numbers("x", x)
        k = jnp.asarray(_hyperboloid("ClassPoints", manifold).k, x.dtype)
        points = self.param("cls", lambda key, shape: _started(key, shape, manifold), (self.classes, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (self.classes,))
        product = flip(x) @ points.T
        square = -2 * k - 2 * (product / k if self.over_k else product) + bias.reshape((1,) * (x.ndim - 1) + (-1,))
        return -(jnp.where(square >= 0, square, 0) if self.bounded else square)


def _started(key: Array, shape: tuple[int, int], manifold: Manifold) -> Float[Array, "classes d+1"]:
    u = jax.random.normal(key, shape)
    u = u / jnp.linalg.norm(u, axis=-1, keepdims=True)
    return lifted_features(manifold, u[:, 1:], u[:, :1])


def degree_weights(graph: Graph, like: Float[Array, "*batch d"]) -> Float[Array, " E"]:
    """1/sqrt(d_i d_j) of each edge j -> i, where d counts the edges that a node receives; 0 where one of both receives none.

    In the dtype of `like`. Weights of the graph are not used, and no self loops are added.
    """
    count = segment_sum(jnp.ones((graph.num_edges, 1), like.dtype), graph)[:, 0]
    root = jnp.where(count > 0, jax.lax.rsqrt(jnp.maximum(count, 1)), 0)
    return gather_receivers(root, graph) * gather_senders(root, graph)


class GraphBranch(nn.Module):
    """A flat graph network: h_0 = relu(norm(B x + b)), h_{l+1} = h_0 + relu(norm(W [A h_l, h_0])), with A of `degree_weights`.

    Without `use_init` W is applied to A h_l, and without `use_weight` as well there is no W. The norms, the sums and the ReLU of the layers
    can be left out. The residual is **the first state** in all layers, as in the authors' code. In training, each state is dropped out
    before a residual is added. Parameters `fcs_0`, `convs_l/W` and `bns_l/{scale, bias}` with `batch_stats/bns_l/{mean, var}`.
    """

    features: int
    layers: int = 2
    dropout: float = 0.5
    use_bn: bool = True
    use_residual: bool = True
    use_weight: bool = True
    use_init: bool = False
    use_act: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "n in"], graph: Graph, train: bool = False) -> Float[Array, "n out"]:
        def normed(h: Array, layer: int, act: bool) -> Array:
            h = BatchNorm(name=f"bns_{layer}")(h, use_running_average=not train) if self.use_bn else h
            return nn.Dropout(self.dropout)(jax.nn.relu(h) if act else h, deterministic=not train)

        x = as_numbers("x", x)
        weights = degree_weights(graph, x)
        first = h = normed(nn.Dense(self.features, name="fcs_0")(x), 0, True)
        for layer in range(self.layers):
            h = aggregate(weights, h, graph)
            if self.use_init or self.use_weight:
                given = jnp.concatenate([h, first], -1) if self.use_init else h
                h = _Weight(self.features, name=f"convs_{layer}")(given)
            h = normed(h, layer + 1, self.use_act)
            h = h + first if self.use_residual else h
        return h


class _Weight(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n in"]) -> Float[Array, "n out"]:
        return nn.Dense(self.features, name="W")(x)
