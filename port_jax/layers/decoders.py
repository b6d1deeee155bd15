"""Predictions from node embeddings: links, classes, and a contrastive loss."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.initializers import normal
from port_jax.manifolds import Manifold

__all__ = ["Hyperplanes", "TangentLinear", "fermi_dirac", "info_nce"]


def fermi_dirac(square_distance: Float[Array, "*batch"], r: float = 2.0, t: float = 1.0) -> Float[Array, "*batch"]:
    """Probability of a link: 1 / (exp((d^2 - r) / t) + 1) (arXiv 1910.12933, section 4), written so that nothing overflows."""
    return jax.nn.sigmoid((r - square_distance) / t)


def info_nce(manifold: Manifold, anchors: Float[Array, "p d"], positives: Float[Array, "p d"], negatives: Float[Array, "p k d"],
             temperature: float = 1.0) -> Float[Array, " p"]:  # fmt: skip
    """-log(exp(-d(a, p) / T) / (exp(-d(a, p) / T) + sum_k exp(-d(a, n_k) / T))) per anchor (InfoNCE, arXiv 1807.03748)."""
    near = -manifold.dist(anchors, positives) / temperature
    far = -manifold.dist(anchors[:, None], negatives) / temperature
    return jax.nn.logsumexp(jnp.concatenate([near[:, None], far], -1), axis=-1) - near


class TangentLinear(nn.Module):
    """Class logits by a linear map of log_0(h)."""

    num_classes: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, manifold: Manifold, h: Float[Array, "n ambient"]) -> Float[Array, "n classes"]:
        return nn.Dense(self.num_classes, self.use_bias, name="cls")(manifold.to_tangent0(h))


class Hyperplanes(nn.Module):
    """Class logits as signed distances to hyperplanes of the ball, geoopt's Distance2StereographicHyperplanes.

    `points` [classes, d] lie on the ball; each is both the offset and the normal of its plane. Points of a hyperboloid are mapped
    to the unit ball first.
    """

    num_classes: int

    @nn.compact
    def __call__(self, manifold: Manifold, h: Float[Array, "n ambient"]) -> Float[Array, "n classes"]:
        ball, h = manifold.ball, manifold.to_ball(h)
        points = self.param("points", normal(ball, 0.1), (self.num_classes, h.shape[-1]))
        return ball.dist2planes(h, points, points)
