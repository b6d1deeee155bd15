"""Residual connections: a point and what a block made of it become one point."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.checks import as_numbers
from port_jax.layers.models_of_space import require_time
from port_jax.manifolds import Manifold

__all__ = ["MidpointResidual", "MobiusResidual", "SpaceResidual"]

Points = Float[Array, "*batch ambient"]


class MobiusResidual(nn.Module):
    """x ⊕ y: Moebius addition on a ball, on a hyperboloid the translation that takes the origin to x, applied to y."""

    def __call__(self, manifold: Manifold, x: Points, y: Points) -> Points:
        return manifold.mobius_add(as_numbers("x", x), as_numbers("y", y))


class MidpointResidual(nn.Module):
    """The midpoint of x and y with the weights 1 and w (He et al. 2024; HyperCore's LResNet).

    On a hyperboloid √k a/|a|_L with a = x + w y, on a ball the same point. Parameter: `w_y` [], which starts at 1. With `scale` the space
    coordinates are multiplied by it afterwards and the time is recomputed, as HELM does; that needs a hyperboloid.
    """

    scale: float | None = None

    @nn.compact
    def __call__(self, manifold: Manifold, x: Points, y: Points) -> Points:
        both = jnp.stack([as_numbers("x", x), as_numbers("y", y)], -2)
        w = self.param("w_y", nn.initializers.ones, ())
        weights = jnp.stack([jnp.ones_like(w), w])
        middle = manifold.weighted_midpoint(both, jnp.broadcast_to(weights, both.shape[:-1]), reducedim=(-2,))  # pyright: ignore[reportAttributeAccessIssue]
        if self.scale is None:
            return middle
        require_time(self, manifold, "MidpointResidual without scale")
        return manifold.projx(manifold.from_coordinates0(self.scale * middle[..., 1:]))


class SpaceResidual(nn.Module):
    """z_s = x_s + y_s, z_t = sqrt(k + |z_s|²), on a hyperboloid (Bdeir et al. 2024, section 4.4)."""

    def __call__(self, manifold: Manifold, x: Points, y: Points) -> Points:
        require_time(self, manifold, "MobiusResidual")
        return manifold.projx(manifold.from_coordinates0(as_numbers("x", x)[..., 1:] + as_numbers("y", y)[..., 1:]))
