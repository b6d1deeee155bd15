"""MuRP: multi-relational Poincaré graph embeddings, and the Euclidean MuRE (arXiv 1905.09791)."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float, Int

from port_jax.checks import as_indices, as_numbers
from port_jax.initializers import normal
from port_jax.manifolds import Euclidean, PoincareBallExact
from port_jax.types import ManifoldTree, Params

__all__ = ["MuRP"]


class MuRP(nn.Module):
    """Scores of triples: -d(exp_0(R_r log_0 h_s), h_o (+) r_r)^2 + b_s + b_o on the unit ball, R_r diagonal.

    With `hyperbolic` off it is MuRE: -|R_r h_s - (h_o + r_r)|^2 + b_s + b_o.
    """

    entities: int
    relations: int
    dim: int
    hyperbolic: bool = True

    def setup(self) -> None:
        start = normal(self._manifold(), 1e-3)
        self.Eh = self.param("Eh", start, (self.entities, self.dim))
        self.rvh = self.param("rvh", start, (self.relations, self.dim))
        self.Wu = self.param("Wu", lambda *args: 2 * nn.initializers.uniform(1.0)(*args) - 1, (self.relations, self.dim))
        self.bs = self.param("bs", nn.initializers.zeros, (self.entities,))
        self.bo = self.param("bo", nn.initializers.zeros, (self.entities,))

    def encode(self) -> Float[Array, "n d"]:
        """The entities' points."""
        return self.Eh

    def __call__(
        self, subjects: Int[Array, "*batch"], relations: Int[Array, "*batch"], objects: Int[Array, "*batch"]
    ) -> Float[Array, "*batch"]:
        """Scores of triples, given as three index arrays that broadcast."""
        given = {"subjects": subjects, "relations": relations, "objects": objects}
        s, r, o = (as_indices(name, value) for name, value in given.items())
        return self._far(self.Eh[s], self.Wu[r], self.Eh[o], self.rvh[r]) + self.bs[s] + self.bo[o]

    def score(self, h: Float[Array, "n d"], triples: Int[Array, "p 3"]) -> Float[Array, " p"]:
        """Scores of triples [P, 3] (subject, relation, object) with the entities at `h`."""
        h, (s, r, o) = as_numbers("h", h), as_indices("triples", triples).T
        return self._far(h[s], self.Wu[r], h[o], self.rvh[r]) + self.bs[s] + self.bo[o]

    def manifolds(self, params: Params) -> ManifoldTree:
        """Entities and translations on the ball, moved along geodesics as by the authors' optimizer; the rest Euclidean."""
        return {name: self._manifold() if name in ("Eh", "rvh") else Euclidean() for name in params}

    def _far(self, s: Array, w: Array, o: Array, r: Array) -> Array:
        if not self.hyperbolic:
            return -((w * s - (o + r)) ** 2).sum(-1)
        ball = PoincareBallExact(1.0)
        return -ball.dist2(ball.expmap0(w * ball.logmap0(s)), ball.mobius_add(o, r))

    def _manifold(self) -> PoincareBallExact | Euclidean:
        return PoincareBallExact(1.0) if self.hyperbolic else Euclidean()
