"""Hyperplanes of the hyperboloid <x, x> = -k given by a direction z in the tangent space at the origin and an offset a along it.

The hyperplane of (z, a) passes through p = exp_0(a z/|z|), at the distance a from the origin, and has the normal z transported to p, which
is w = (sinh(a/√k)|z|, cosh(a/√k) z). Bdeir et al., "Fully hyperbolic convolutional neural networks for computer vision" (2024),
section 4.3.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig

__all__ = ["unidirectional"]

Number = Float[Array, "..."]


def unidirectional(
    x: Float[Array, "*batch d+1"], z: Float[Array, "d m"], a: Float[Array, " m"], k: Number | float
) -> Float[Array, "*batch m"]:
    """|z_j| d(x, hyperplane j), signed: √k |z| asinh(<w, x>/(√k |z|)), w = (sinh(a/√k)|z|, cosh(a/√k) z)."""
    k = jnp.asarray(k, x.dtype)
    length = trig.sqrt_or_zero(jnp.sum(z * z, 0))
    some = jnp.where(length > 0, length, 1)
    turn = -a * a / k
    shape = (*x.shape[:-1], z.shape[1])
    time = length * (a / jnp.sqrt(k)) * trig.sin_ratio(turn)
    along = jnp.broadcast_to(trig.cos_k(turn), shape) * (x[..., 1:] @ z) - x[..., :1] * jnp.broadcast_to(time, shape)
    t = along / jnp.broadcast_to(some, shape)
    return along * trig.arsinh_ratio(-t * t / k)
