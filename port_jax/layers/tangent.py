"""Coordinates in the tangent space at the origin, the same for ball, hyperboloid and flat space."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from port_jax.manifolds import Euclidean, Lorentz, PoincareBall
from port_jax.manifolds.gyrovector import boundary_margin
from port_jax.manifolds.lorentz_math import farthest
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


def reach(manifold: Space, u: Float[Array, "*batch d"], longest: float | None = None) -> Float[Array, "*batch 1"]:
    """The r <= 1 with log_0(exp_0(u)) = r u: exp_0(u) stays below a farthest distance. Without the point between, nothing is rounded.

    On the ball that is where points are projected to, on the hyperboloid `longest` in units of sqrt(k), by default where numbers end.
    As in exp_0 itself, a u whose square overflows (1.8e19 in float32) comes out as 0.
    """
    square = (u * u).sum(-1, keepdims=True)
    if isinstance(manifold, Euclidean):
        return jnp.ones_like(square)
    if isinstance(manifold, Lorentz):
        most = jnp.asarray((longest or farthest(u.dtype)) ** 2 * manifold.k, u.dtype)
    elif isinstance(manifold, PoincareBall):
        most = float(np.arctanh(1 - boundary_margin(u.dtype))) ** 2 / jnp.asarray(manifold.c, u.dtype)
    else:
        raise TypeError(f"manifold: found {type(manifold).__name__}; reach knows balls, hyperboloids and flat space")
    beyond = square > most
    return jnp.sqrt(jnp.where(beyond, most, 1) / jnp.where(beyond, square, 1))


def within_reach(manifold: Space, u: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """log_0(exp_0(u)) in d coordinates, what `to_tangent0` makes of `from_tangent0`."""
    if isinstance(manifold, StereographicModel) and not isinstance(manifold, PoincareBall):
        return to_tangent0(manifold, from_tangent0(manifold, u))
    return u if isinstance(manifold, Euclidean) else u * reach(manifold, u)


def translate(manifold: Space, x: Float[Array, "*batch ambient"], b: Float[Array, " d"]) -> Float[Array, "*batch ambient"]:
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

    def __call__(self, manifold: Space, x: Float[Array, "n ambient"], mask: Float[Array, "in out"] | None = None):
        """`mask` multiplies the kernel: DropConnect, with the scale 1 / (1 - p) already in it."""
        return self.of_tangents(manifold, to_tangent0(manifold, x), mask)

    @nn.compact
    def of_tangents(self, manifold: Space, u: Float[Array, "n in"], mask: Float[Array, "in out"] | None = None):
        """The same of u = log_0(x)."""
        kernel = self.param("kernel", nn.initializers.variance_scaling(2.0, "fan_avg", "uniform"), (u.shape[-1], self.features))
        z = from_tangent0(manifold, u @ (kernel if mask is None else kernel * mask))
        if not self.use_bias:
            return z
        return translate(manifold, z, self.param("bias", nn.initializers.zeros, (self.features,)))
