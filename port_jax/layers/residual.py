"""Residual connections: a point and what a block made of it become one point."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.checks import as_numbers
from port_jax.layers.models_of_space import require_time
from port_jax.manifolds import Manifold
from port_jax.manifolds.hyperboloid.ambient import onto

__all__ = ["MidpointResidual", "MobiusResidual", "SpaceResidual"]

Points = Float[Array, "*batch ambient"]
LEAST = 1e-2
"""The shortest sum of HyperCore's LResNet, whose bound on squares is 1e-4."""


class MobiusResidual(nn.Module):
    """x ⊕ y: Moebius addition on a ball, on a hyperboloid the translation that takes the origin to x, applied to y."""

    def __call__(self, manifold: Manifold, x: Points, y: Points) -> Points:
        return manifold.mobius_add(as_numbers("x", x), as_numbers("y", y))


class MidpointResidual(nn.Module):
    """The midpoint of x and y with the weights 1 and w (He et al. 2024; HyperCore's LResNet).

    On a hyperboloid √k a/|a|_L with a = x + w y, on a ball the same point. Parameter: `w_y` [], which starts at 1. With `scale` the space
    coordinates are multiplied by it afterwards and the time is recomputed, as HELM does; that needs a hyperboloid. `as_trained` takes the
    authors' formula, √k a/√max(|⟨a, a⟩|, 1e-4), by all coordinates of the points: it differs where w is negative, or a point lies beside
    its hyperboloid.
    """

    scale: float | None = None
    as_trained: bool = False

    @nn.compact
    def __call__(self, manifold: Manifold, x: Points, y: Points) -> Points:
        x, y, w = as_numbers("x", x), as_numbers("y", y), self.param("w_y", nn.initializers.ones, ())
        if self.scale is not None or self.as_trained:
            require_time(self, manifold, "MidpointResidual without scale")
        middle = onto(x + w * y, manifold.k, LEAST) if self.as_trained else self._middle(manifold, x, y, w)  # pyright: ignore[reportAttributeAccessIssue]
        return middle if self.scale is None else manifold.projx(manifold.from_coordinates0(self.scale * middle[..., 1:]))

    def _middle(self, manifold: Manifold, x: Points, y: Points, w: Array) -> Points:
        both = jnp.stack([x, y], -2)
        weights = jnp.stack([jnp.ones_like(w), w])
        return manifold.weighted_midpoint(both, jnp.broadcast_to(weights, both.shape[:-1]), reducedim=(-2,))  # pyright: ignore[reportAttributeAccessIssue]


class SpaceResidual(nn.Module):
    """z_s = x_s + y_s, z_t = sqrt(k + |z_s|²), on a hyperboloid (Bdeir et al. 2024, section 4.4)."""

    def __call__(self, manifold: Manifold, x: Points, y: Points) -> Points:
        require_time(self, manifold, "MobiusResidual")
        return manifold.projx(manifold.from_coordinates0(as_numbers("x", x)[..., 1:] + as_numbers("y", y)[..., 1:]))
