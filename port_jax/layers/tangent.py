"""Coordinates in the tangent space at the origin, the same for ball, hyperboloid and flat space."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import Euclidean, Lorentz
from port_jax.manifolds.stereographic import StereographicModel

CurvedSpace = StereographicModel | Lorentz
"""Spaces with an origin that layers can be built on."""
Space = CurvedSpace | Euclidean


def drop_time(manifold: Space, u: Float[Array, "*batch ambient"]) -> Float[Array, "*batch d"]:
    """The d coordinates of an ambient tangent vector at the origin: on the hyperboloid without the time part, which is 0."""
    return u[..., 1:] if isinstance(manifold, Lorentz) else u


def pad_time(manifold: Space, u: Float[Array, "*batch d"]) -> Float[Array, "*batch ambient"]:
    """The inverse of `drop_time`: a time part 0 in front on the hyperboloid."""
    return jnp.pad(u, [(0, 0)] * (u.ndim - 1) + [(1, 0)]) if isinstance(manifold, Lorentz) else u


def to_tangent0(manifold: Space, x: Float[Array, "*batch ambient"]) -> Float[Array, "*batch d"]:
    """log_0(x) in d coordinates."""
    return x if isinstance(manifold, Euclidean) else drop_time(manifold, manifold.logmap0(x))


def from_tangent0(manifold: Space, u: Float[Array, "*batch d"]) -> Float[Array, "*batch ambient"]:
    """exp_0(u), projected as geoopt projects. On the ball exp_0(u) lies at distance 2 |u|, on the hyperboloid at |u|."""
    return u if isinstance(manifold, Euclidean) else manifold.expmap0(pad_time(manifold, u))


def translate(
    manifold: Space, x: Float[Array, "*batch ambient"], b: Float[Array, " d"]
) -> Float[Array, "*batch ambient"]:
    """x (+) exp_0(b): Moebius addition on the ball, exp_x(P_{0->x} b) on the hyperboloid."""
    if isinstance(manifold, Euclidean):
        return x + b
    if isinstance(manifold, Lorentz):
        return manifold.expmap(x, manifold.transp0(x, pad_time(manifold, b)))
    return manifold.mobius_add(x, manifold.expmap0(b))


class HypLinear(nn.Module):
    """z = exp_0(W log_0(x)) (+) exp_0(b) (HGCN, arXiv 1910.12933, eq. 7 and 8).

    Parameters: `kernel` [in, features] and `bias` [features], both in the tangent space at the origin.
    """

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, manifold: Space, x: Float[Array, "n ambient"], mask: Float[Array, "in out"] | None = None):
        """`mask` multiplies the kernel: DropConnect, with the scale 1 / (1 - p) already in it."""
        u = to_tangent0(manifold, x)
        kernel = self.param(
            "kernel", nn.initializers.variance_scaling(2.0, "fan_avg", "uniform"), (u.shape[-1], self.features)
        )
        z = from_tangent0(manifold, u @ (kernel if mask is None else kernel * mask))
        if not self.use_bias:
            return z
        return translate(manifold, z, self.param("bias", nn.initializers.zeros, (self.features,)))
