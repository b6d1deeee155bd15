"""Hyperplanes given by a direction z and an offset r, and the point at given distances to the coordinate planes, at curvature k <= 0.

The hyperplane of (z, r) passes through p = exp_0(r z/|z|) and has the normal z transported from the origin to p, whose Riemannian length
is 2|z|. Shimizu et al., "Hyperbolic neural networks++" (2021), section 3.1 (the logits) and 3.2 (the point).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.row_products import dot, repeated
from port_jax.manifolds.signed import Signed, number
from port_jax.manifolds.stereographic.metric import conformal

__all__ = ["at_distances", "unidirectional"]

LONG = 30.0
"""The distance, in units of the radius, from which `at_distances` divides by exp of the largest one: sinh² overflows at 44 in float32."""


def unidirectional(x: Float[Array, "*batch d"], z: Float[Array, "d m"], r: Float[Array, " m"], k: Signed, *,
                   multiplied: bool = False) -> Float[Array, "*batch m"]:  # fmt: skip
    """2|z_j| d(x, hyperplane j), signed: 2|z| arsin_k(t), t = (2<x, z/|z|> cos_k(2r) - (1 - k|x|²) sin_k(2r))/(1 + k|x|²).

    With c = -k these are the v_j = 2|z|/√c asinh(λ √c <x, z/|z|> cosh(2√c r) - (λ - 1) sinh(2√c r)) of the paper's equation 6.
    multiplied: λ = 2(1 - c|x|²), which is no distance, in the place of 2/(1 - c|x|²), as the code of Poincaré ResNet has it by a slip.
    """
    k = jnp.asarray(number(k), x.dtype)
    length = trig.sqrt_or_zero(jnp.sum(z * z, 0))
    some = jnp.where(length > 0, length, 1)
    ax = conformal(x, k)
    rise = repeated(trig.cos_k(4 * k * r * r), (*x.shape[:-1], z.shape[1]))
    fall = repeated(length * trig.sin_k(2 * r, k), rise.shape)
    along = 2 * ax * (x @ z) * rise - (2 * ax - 1) * fall if multiplied else (2 * (x @ z) * rise - (2 - ax) * fall) / ax  # |z| t
    t = along / repeated(some, rise.shape)
    return 2 * along * trig.arsinh_ratio(k * t * t)


def at_distances(v: Float[Array, "*batch d"], k: Signed) -> Float[Array, "*batch d"]:
    """The point y at the signed distance v_i to each plane {y_i = 0}: w/(1 + sqrt(1 - k|w|²)) with w_i = sin_k(v_i)."""
    k = jnp.asarray(number(k), v.dtype)
    s = jnp.sqrt(-k) * v
    m = jax.lax.stop_gradient(jnp.max(jnp.abs(s), -1, keepdims=True))
    long = m > LONG
    w = trig.sin_k(jnp.where(long, 0, v), k)
    near = w / (1 + jnp.sqrt(1 - k * dot(w, w)))
    # the same with numerator and denominator times exp(-m)
    m = jnp.where(long, m, 0)
    size = jnp.abs(jnp.where(long, s, 1))
    scaled = jnp.sign(s) * (jnp.exp(size - m) - jnp.exp(-size - m)) / 2
    least = jnp.exp(-m)
    far = scaled / ((least + jnp.sqrt(least * least + dot(scaled, scaled))) * jnp.sqrt(-k))
    return jnp.where(long, far, near)
