"""A table of points."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float, Int

from port_jax.checks import as_indices
from port_jax.initializers import normal
from port_jax.manifolds import Manifold

__all__ = ["PointEmbedding"]


class PointEmbedding(nn.Module):
    """The rows of a table of points: x_i = embedding[i].

    Parameter: `embedding` [num_embeddings, ambient], **points** of the manifold, which start as exp_0 of N(0, stddev²) and which an
    optimizer has to keep there.
    """

    num_embeddings: int
    features: int
    stddev: float = 1e-2

    @nn.compact
    def __call__(self, manifold: Manifold, indices: Int[Array, "*batch"]) -> Float[Array, "*batch ambient"]:
        table = self.param("embedding", normal(manifold, self.stddev), (self.num_embeddings, self.features + manifold.ambient))
        return table[as_indices("indices", indices)]
