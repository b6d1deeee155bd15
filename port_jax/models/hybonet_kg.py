"""HyboNet for knowledge graphs (arXiv 2105.14686)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from port_jax.checks import as_indices, as_numbers
from port_jax.initializers import normal
from port_jax.manifolds import Euclidean, Lorentz
from port_jax.types import ManifoldTree, Params

__all__ = ["HyboNetKG"]


class HyboNetKG(nn.Module):
    """Scores margin + 2 <f_r(h), t>_L + b_h + b_t for entities on the unit hyperboloid, with `dim` ambient coordinates.

    With y = W_r h, f_r(h) has the time s sigmoid(y_0) + 1.1 and the space y_1.. + b_1.. rescaled to the length sqrt(time^2 - 1).
    `max_scale` is s, which is not trained. With `time_bias` the time is s sigmoid(y_0 + b_0) + 1.1, as in the paper and in the authors'
    code before February 2022; since then b_0 is not used and stays 0.
    """

    entities: int
    relations: int
    dim: int
    margin: float
    max_scale: float = 2.0
    max_norm: float | None = None
    time_bias: bool = False

    def setup(self) -> None:
        kernel = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=2, out_axis=1, batch_axis=0)
        self.emb_entity = self.param("emb_entity", normal(Lorentz(1.0), self.dim**-0.5), (self.entities, self.dim))
        self.relation_bias = self.param("relation_bias", nn.initializers.zeros, (self.relations, self.dim))
        self.relation_transform = self.param("relation_transform", kernel, (self.relations, self.dim, self.dim))
        self.bias_head = self.param("bias_head", nn.initializers.zeros, (self.entities,))
        self.bias_tail = self.param("bias_tail", nn.initializers.zeros, (self.entities,))

    def encode(self) -> Float[Array, "n dim"]:
        """The entities' points."""
        return self.emb_entity

    def __call__(self, heads: Int[Array, " b"], relations: Int[Array, " b"], tails: Int[Array, "b k"]) -> Float[Array, "b k"]:
        """The scores of k tails for each head and relation."""
        given = {"heads": heads, "relations": relations, "tails": tails}
        heads, relations, tails = (as_indices(name, value) for name, value in given.items())
        moved = self._moved(self.emb_entity[heads], relations)
        return self._match(moved[:, None], self.emb_entity[tails]) + self.bias_head[heads][:, None] + self.bias_tail[tails]

    def score(self, h: Float[Array, "n dim"], triples: Int[Array, "p 3"]) -> Float[Array, " p"]:
        """Scores of triples [P, 3] (head, relation, tail) with the entities at `h`."""
        h, (s, r, o) = as_numbers("h", h), as_indices("triples", triples).T
        return self._match(self._moved(h[s], r), h[o]) + self.bias_head[s] + self.bias_tail[o]

    def manifolds(self, params: Params) -> ManifoldTree:
        """Entities on the hyperboloid, the rest Euclidean."""
        return {name: Lorentz(1.0) if name == "emb_entity" else Euclidean() for name in params}

    def confine(self, params: Params) -> Params:
        """The parameters with each entity's space-like part shortened to at most `max_norm`, as the original does after each step."""
        if self.max_norm is None:
            return params
        space = params["emb_entity"][:, 1:]
        square = (space * space).sum(-1, keepdims=True)
        outside = square > self.max_norm**2
        space = jnp.where(outside, space * (self.max_norm / jnp.sqrt(jnp.where(outside, square, 1))), space)
        time = jnp.sqrt(1 + (space * space).sum(-1, keepdims=True))
        return {**params, "emb_entity": jnp.concatenate([time, space], -1)}

    def _moved(self, x: Float[Array, "b dim"], relations: Int[Array, " b"]) -> Float[Array, "b dim"]:
        y = jnp.einsum("bi,boi->bo", x, self.relation_transform[relations])
        shifted = y + self.relation_bias[relations]
        time = self.max_scale * jax.nn.sigmoid((shifted if self.time_bias else y)[:, :1]) + 1.1
        space = shifted[:, 1:]
        square = (space * space).sum(-1, keepdims=True)
        unit = space / jnp.sqrt(jnp.where(square > 0, square, 1))
        return jnp.concatenate([time, unit * jnp.sqrt(time * time - 1)], -1)

    def _match(self, x: Float[Array, "*batch dim"], y: Float[Array, "*batch dim"]) -> Float[Array, "*batch"]:
        product = (x * y).at[..., 0].multiply(-1).sum(-1)
        return self.margin + 2 * product
