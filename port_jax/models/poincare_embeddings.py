"""Poincaré and Lorentz embeddings, and entailment cones (arXiv 1705.08039, 1806.03417, 1804.01882)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from port_jax.checks import as_indices, as_numbers, require_choice
from port_jax.initializers import normal
from port_jax.manifolds import Euclidean, Lorentz, Manifold, PoincareBall, lorentz_to_poincare
from port_jax.primitives import in_place
from port_jax.types import ManifoldTree, Params

__all__ = ["CONE", "ENERGIES", "INNER", "MANIFOLDS", "MARGIN", "PoincareEmbeddings", "aperture", "between", "cone_angle", "length"]

MANIFOLDS = ("poincare", "lorentz", "euclidean")
ENERGIES = ("distance", "entailment_cones")
CONE = 0.1
"""K of the cones: the aperture at |x| is arcsin(K (1 - |x|^2) / |x|) up to the original's inner radius."""
INNER = 2 * CONE / (1 + (1 + 4 * CONE**2) ** 0.5)
MARGIN = 1e-5


def length(x: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
    """|x|, with gradient 0 at 0."""
    square = (x * x).sum(-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def between(x: Float[Array, "*batch d"], y: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
    """The angle of two vectors, 2 atan2(|x/|x| - y/|y||, |x/|x| + y/|y||) (Kahan), accurate near 0 and pi, too."""
    nx, ny = length(x)[..., None], length(y)[..., None]
    a, b = x * ny, y * nx
    near, far = length(a - b), length(a + b)
    degenerate = (near == 0) & (far == 0)
    return 2 * jnp.arctan2(jnp.where(degenerate, 0, near), jnp.where(degenerate, 1, far))


def cone_angle(x: Float[Array, "*batch d"], y: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
    """The angle at x of the ball between the ray from the origin through x and the geodesic to y.

    It is the angle between x and (-x) (+) y. As the ball is conformal, this is equation 28 of arXiv 1804.01882 without the division
    by |x - y|.
    """
    return between(x, PoincareBall(1.0).mobius_add(-x, y, project=False))


def aperture(x: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
    """arcsin(r (1 - |x|^2) / |x|) of points of the ball, close to pi / 2 inside the radius r."""
    norm = length(x)
    inside = INNER * (1 - norm**2) >= (1 - MARGIN) * norm
    return jnp.where(inside, jnp.arcsin(1 - MARGIN), jnp.arcsin(INNER * (1 - norm**2) / jnp.where(inside, 1, norm) * ~inside))


class PoincareEmbeddings(nn.Module):
    """A table of `size` points, and the energy of pairs: the distance, or by how much an angle exceeds a cone's aperture.

    `manifold` is poincare, lorentz (d + 1 coordinates) or euclidean (squared distance); the first two have curvature -1. Points are
    put onto their manifold before use; as in the original, gradients pass as if they were there already. The `names` in the
    original's files are in the checkpoint's extras under `objects`.
    """

    size: int
    dim: int
    manifold: str = "poincare"
    energy: str = "distance"

    def __post_init__(self) -> None:
        require_choice("manifold", self.manifold, MANIFOLDS)
        require_choice("energy", self.energy, ENERGIES)
        super().__post_init__()

    def setup(self) -> None:
        width = self.dim + (self.manifold == "lorentz")
        self.embedding = self.param("embedding", normal(self.geometry), (self.size, width))

    @property
    def geometry(self) -> Manifold:
        """The manifold of the points."""
        spaces: dict[str, Manifold] = {"poincare": PoincareBall(1.0), "lorentz": Lorentz(1.0), "euclidean": Euclidean(1)}
        return spaces[self.manifold]

    def encode(self) -> Float[Array, "n ambient"]:
        """All points."""
        return self._placed(self.embedding)

    def __call__(self, inputs: Int[Array, "b k"]) -> Float[Array, "b k-1"]:
        """The energies of inputs[:, 1:] with respect to inputs[:, 0]; low for related elements."""
        return self.energies(self.embedding[as_indices("inputs", inputs)])

    def energies(self, points: Float[Array, "b k ambient"]) -> Float[Array, "b k-1"]:
        """The same for rows already read from the table, whose derivatives are the gradients for sparse optimizers."""
        points = self._placed(as_numbers("points", points))
        return self._energy(points[:, :1], points[:, 1:])

    def score(self, h: Float[Array, "n ambient"], pairs: Int[Array, "p 2"]) -> Float[Array, " p"]:
        """The energy of each pair, low for related elements."""
        h, pairs = as_numbers("h", h), as_indices("pairs", pairs)
        return self._energy(h[pairs[:, 0]], h[pairs[:, 1]])

    def manifolds(self, params: Params) -> ManifoldTree:
        """The manifold of the table."""
        return dict.fromkeys(params, self.geometry)

    def _placed(self, x: Float[Array, "*batch ambient"]) -> Float[Array, "*batch ambient"]:
        if self.manifold == "lorentz" and self.energy == "entailment_cones":  # out of the inner radius, inside which cones are not defined
            norm = length(x[..., 1:]) / (1 + x[..., 0])
            low = INNER + MARGIN
            space = x[..., 1:] * jnp.where(norm < low, low / jnp.where(norm > 0, norm, 1), 1)[..., None]
            return in_place(x, self.geometry.projx(jnp.concatenate([x[..., :1], space], -1)))
        return in_place(x, self.geometry.projx(x))

    def _energy(self, s: Float[Array, "*batch ambient"], o: Float[Array, "*batch ambient"]) -> Float[Array, "*batch"]:
        if self.energy == "distance":
            return self.geometry.dist2(s, o) if self.manifold == "euclidean" else self.geometry.dist(s, o)
        if self.manifold == "euclidean":
            return jax.nn.relu(_flat_angle(o, s) - jnp.arcsin(jnp.clip(INNER / length(o), 0, 1)))
        if self.manifold == "poincare":  # here the original measures the angle at s, on the hyperboloid at o
            return jax.nn.relu(cone_angle(s, o) - aperture(o))
        k = jnp.ones((), s.dtype)
        s, o = lorentz_to_poincare(s, k), lorentz_to_poincare(o, k)
        return jax.nn.relu(cone_angle(o, s) - aperture(o))


def _flat_angle(u: Float[Array, "*batch d"], v: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
    """arccos((|u|^2 - |v|^2 - q^2) / (2 |v| q)) with q = |u - v|^2, the original's formula for flat space."""
    far = ((u - v) ** 2).sum(-1)
    top = (u**2).sum(-1) - (v**2).sum(-1) - far**2
    return jnp.arccos(jnp.clip(top / (2 * length(v) * far), -1, 1))
