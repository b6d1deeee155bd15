"""RotH, RefH and AttH: hyperbolic knowledge graph embeddings (arXiv 2005.00545)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from port_jax.checks import as_indices, require_choice
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.types import ManifoldTree, Params

__all__ = ["BIASES", "KINDS", "KGEmb", "reflect", "rotate", "squared_arsinh_root", "tangent_dist2"]

KINDS = ("RotH", "RefH", "AttH")
BIASES = ("learn", "constant", "none")


def _planes(r: Float[Array, " d"], x: Float[Array, " d"]) -> tuple[Array, Array, Array, Array]:
    """cos and sin of each coordinate plane's angle, from r / |r|, and the two coordinates of x in it. r = 0 gives 0."""
    r, x = r.reshape(-1, 2), x.reshape(-1, 2)
    square = (r * r).sum(-1, keepdims=True)
    r = r / jnp.sqrt(jnp.where(square > 0, square, 1))
    return r[:, 0], r[:, 1], x[:, 0], x[:, 1]


def rotate(r: Float[Array, " d"], x: Float[Array, " d"]) -> Float[Array, " d"]:
    """Givens rotations of the coordinate planes (0, 1), (2, 3), ..."""
    cos, sin, a, b = _planes(r, x)
    return jnp.stack([cos * a - sin * b, cos * b + sin * a], -1).reshape(-1)


def reflect(r: Float[Array, " d"], x: Float[Array, " d"]) -> Float[Array, " d"]:
    """Givens reflections of the same planes."""
    cos, sin, a, b = _planes(r, x)
    return jnp.stack([cos * a + sin * b, sin * a - cos * b], -1).reshape(-1)


def squared_arsinh_root(s: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """arsinh(sqrt(s))^2, smooth at s = 0, where its series is s - s^2/3 + 8 s^3/45."""
    small = s < 1e-4
    root = jnp.sqrt(jnp.where(small, 1, s))
    return jnp.where(small, s * (1 - s / 3 + 8 * s * s / 45 - 4 * s**3 / 35), jnp.arcsinh(root) ** 2)


def tangent_dist2(x: Float[Array, " d"], v: Float[Array, "*batch d"], c: Float[Array, ""]) -> Float[Array, "*batch"]:
    """d_c(x, exp_0 v)^2 = 4/c arsinh(sqrt(s))^2, s = c |x - exp_0 v|^2 cosh(sqrt(c) |v|)^2 / (1 - c |x|^2).

    1 - c |exp_0 v|^2 is 1 / cosh^2, so that no point near the boundary is computed, and none has to be kept away from it.
    """
    y = PoincareBall(c).expmap0(v, project=False)
    length2 = c * (v * v).sum(-1)
    cosh = jnp.cosh(jnp.where(length2 > 0, jnp.sqrt(jnp.where(length2 > 0, length2, 1)), 0))
    square = c * ((x.reshape(*[1] * (y.ndim - 1), -1) - y) ** 2).sum(-1) * cosh**2 / (1 - c * (x * x).sum(-1))
    return 4 / c * squared_arsinh_root(square)


class KGEmb(nn.Module):
    """Scores of triples (head, relation, tail): -d_c(q, exp_0 t)^2 and a bias, with c = softplus(`c`).

    There is one c, or with `multi_c` one per relation. With exp_0 at c, q is
    - RotH: Rot_r(exp_0 h (+) exp_0 r_1) (+) exp_0 r_2
    - RefH: exp_0(Ref_r h) (+) exp_0 r_1
    - AttH: exp_0(softmax attention over Ref_r h and Rot_r h) (+) exp_0 r_1

    All tables contain tangent vectors at the origin. `bias` is "learn" (b_head + b_tail), "constant" (`gamma`) or "none".
    """

    kind: str
    entities: int
    relations: int
    rank: int
    bias: str = "learn"
    multi_c: bool = True
    gamma: float = 0.0

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)
        require_choice("bias", self.bias, BIASES)
        if self.rank % 2:
            raise ValueError(f"rank: found {self.rank}; give an even number, because coordinates are rotated in pairs")
        super().__post_init__()

    def setup(self) -> None:
        small, zero = nn.initializers.normal(1e-3), nn.initializers.zeros
        wide = 2 * self.rank if self.kind == "AttH" else self.rank
        self.c = self.param("c", nn.initializers.ones, (self.relations if self.multi_c else 1, 1))
        self.entity = self.param("entity", small, (self.entities, self.rank))
        self.rel = self.param("rel", small, (self.relations, 2 * self.rank))
        self.rel_diag = self.param("rel_diag", lambda *args: 2 * jax.random.uniform(*args) - 1, (self.relations, wide))
        self.bh = self.param("bh", zero, (self.entities, 1))
        self.bt = self.param("bt", zero, (self.entities, 1))
        if self.kind == "AttH":
            self.context_vec = self.param("context_vec", small, (self.relations, self.rank))

    def encode(self, queries: Int[Array, "b k"]) -> tuple[Float[Array, "b rank"], Float[Array, " b"]]:
        """Points of the queries (head, relation, ...), each on the ball of its c, and the c of each."""
        queries = as_indices("queries", queries)
        head, relation = queries[:, 0], queries[:, 1]
        c = jax.nn.softplus(self.c[relation, 0] if self.multi_c else jnp.broadcast_to(self.c[0, 0], relation.shape))
        parts = [self.entity[head], self.rel[relation], self.rel_diag[relation]]
        parts.append(self.context_vec[relation] if self.kind == "AttH" else parts[0])
        return jax.vmap(self._query)(c, *parts), c

    def __call__(self, triples: Int[Array, "b 3"]) -> Float[Array, " b"]:
        """Scores of the triples."""
        triples = as_indices("triples", triples)
        head, tail = triples[:, 0], triples[:, 2]
        points, c = self.encode(triples)
        return self._offset(self.bh[head, 0], self.bt[tail, 0]) - jax.vmap(tangent_dist2)(points, self.entity[tail], c)

    def score(self, h: tuple[Float[Array, "b rank"], Float[Array, " b"]], pairs: Int[Array, "b 2"]) -> Float[Array, " b"]:
        """Scores of encoded queries and tails: h = encode(queries), pairs[:, 0] are the heads of the queries, pairs[:, 1] the tails."""
        (points, c), pairs = h, as_indices("pairs", pairs)
        far = jax.vmap(tangent_dist2)(points, self.entity[pairs[:, 1]], c)
        return self._offset(self.bh[pairs[:, 0], 0], self.bt[pairs[:, 1], 0]) - far

    def score_tails(self, queries: Int[Array, "b k"]) -> Float[Array, "b entities"]:
        """Scores of every entity as the tail of each query, one query at a time in memory."""
        queries = as_indices("queries", queries)
        points, c = self.encode(queries)
        far = jax.lax.map(lambda query: tangent_dist2(query[0], self.entity, query[1]), (points, c))
        return self._offset(self.bh[queries[:, 0]], self.bt.T) - far

    def manifolds(self, params: Params) -> ManifoldTree:
        """All parameters are Euclidean: they are tangent vectors at the origin."""
        return {name: Euclidean() for name in params}

    def _query(self, c: Array, head: Array, rel: Array, diagonal: Array, context: Array) -> Float[Array, " rank"]:
        ball, (first, second) = PoincareBall(c), jnp.split(rel, 2)
        if self.kind == "RotH":
            moved = ball.mobius_add(ball.expmap0(head), ball.expmap0(first))
            return ball.mobius_add(rotate(diagonal, moved), ball.expmap0(second), project=False)  # as the original
        if self.kind == "RefH":
            turned = reflect(diagonal, head)
        else:
            rotation, reflection = jnp.split(diagonal, 2)
            pair = jnp.stack([reflect(reflection, head), rotate(rotation, head)])
            scale = float(np.float32(self.rank**-0.5))  # the original rounds it to float32, in double precision too
            turned = jax.nn.softmax(pair @ context * scale) @ pair
        return ball.mobius_add(ball.expmap0(turned), ball.expmap0(first))

    def _offset(self, head: Array, tail: Array) -> Array | float:
        return {"learn": head + tail, "constant": self.gamma, "none": 0.0}[self.bias]
