"""Gyrovector operations, hyperplanes and means on the hyperboloid, which geoopt has on the ball only.

Each is the ball's operation seen through the isometry between the models, written in the hyperboloid's own coordinates: with
the origin o = (√k, 0),

    x ⊕ y = exp_x(PT_{o→x} log_o y),   r ⊗ x = exp_o(r log_o x),   M ⊗ x = exp_o(M log_o x).
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.lorentz import Lorentz
from port_jax.manifolds.stereographic import StereographicModel

Vector = Float[Array, "*batch d+1"]
Number = Float[Array, "..."]


def lorentz_mobius_add(manifold: Lorentz, x: Vector, y: Vector) -> Vector:
    """x ⊕ y: y carried by the translation that takes the origin to x, a Lorentz boost of y.

    With B the boost, (B y)₀ = (x₀y₀ + ⟨x', y'⟩)/√k, (B y)' = y' + x' (y₀ + ⟨x', y'⟩/(x₀ + √k))/√k for space parts x', y'.
    """
    root = jnp.sqrt(jnp.asarray(manifold.k, x.dtype))
    inner = jnp.sum(x[..., 1:] * y[..., 1:], -1, keepdims=True)
    space = y[..., 1:] + x[..., 1:] * ((y[..., :1] + inner / (x[..., :1] + root)) / root)
    return _lift(manifold, space)


def lorentz_mobius_neg(x: Vector) -> Vector:
    """⊖x: the space part reversed."""
    return jnp.concatenate([x[..., :1], -x[..., 1:]], -1)


def lorentz_mobius_scalar_mul(manifold: Lorentz, r: Number, x: Vector) -> Vector:
    """r ⊗ x: the point at r times the distance from the origin along the same ray; r broadcasts with length 1 on the last axis."""
    return manifold.expmap0(jnp.asarray(r, x.dtype) * manifold.logmap0(x))


def lorentz_mobius_matvec(manifold: Lorentz, m: Float[Array, "*batch e d"], x: Vector) -> Float[Array, "*batch e+1"]:
    """M ⊗ x: the matrix applied to the space part of the tangent vector at the origin."""
    image = jnp.einsum("...ij,...j->...i", m, manifold.logmap0(x)[..., 1:])
    return manifold.expmap0(jnp.concatenate([jnp.zeros_like(image[..., :1]), image], -1))


def lorentz_dist2plane(
    manifold: Lorentz,
    x: Vector,
    p: Vector,
    a: Vector,
    *,
    keepdim: bool = False,
    signed: bool = False,
    scaled: bool = False,
) -> Number:
    """Distance from x to the hyperplane through p with normal a, tangent at p: √k arsinh(⟨x, a⟩_L/(√k |a|_L)).

    The hyperplane is {x : ⟨x, a⟩_L = 0}. ⟨x, a⟩_L is taken as ⟨x - p, a⟩_L, which keeps its digits near p.
    """
    k = jnp.asarray(manifold.k, x.dtype)
    a = manifold.proju(p, a)
    product = (x - p) * a
    inner = jnp.sum(product[..., 1:], -1, keepdims=True) - product[..., :1]
    norm = manifold.norm(p, a, keepdim=True)
    ratio = inner / jnp.where(norm > 0, norm, 1)
    distance = ratio * trig.arsin_ratio(-ratio * ratio / k)
    # |d| as d sign(d), with derivative 0 on the hyperplane itself.
    distance = distance if signed else distance * jnp.sign(distance)
    distance = distance * norm if scaled else distance
    return distance if keepdim else distance[..., 0]


def lorentz_centroid(manifold: Lorentz, x: Float[Array, "*batch n d+1"], weights: Number | None = None) -> Vector:
    """√k Σ wᵢxᵢ/|Σ wᵢxᵢ|_L over the second last axis: the minimum of Σ wᵢ(-⟨m, xᵢ⟩_L) (Law et al. 2019, Theorem 3.3).

    It is the gyro-midpoint of the ball under the isometry. `weights` `[*batch, n]` are nonnegative and not all 0.
    """
    weights = jnp.ones(x.shape[:-1], x.dtype) if weights is None else weights
    total = jnp.sum(weights[..., None] * x, -2)
    # -|Σ wᵢxᵢ|²_L = t² - s², as a product that keeps its digits far from the origin.
    size = trig.sqrt_or_zero(jnp.sum(total[..., 1:] ** 2, -1, keepdims=True))
    norm = jnp.sqrt((total[..., :1] - size) * (total[..., :1] + size))
    return _lift(manifold, total[..., 1:] * (jnp.sqrt(jnp.asarray(manifold.k, x.dtype)) / norm))


def gyro_midpoint(
    manifold: StereographicModel | Lorentz, x: Float[Array, "*batch n d"], weights: Number | None = None
) -> Float[Array, "*batch d"]:
    """The weighted gyro-midpoint of n points over the second last axis, in either model."""
    if isinstance(manifold, Lorentz):
        return lorentz_centroid(manifold, x, weights)
    return manifold.weighted_midpoint(x, weights, reducedim=[-2])


def _lift(manifold: Lorentz, space: Float[Array, "*batch d"]) -> Vector:
    """The point with these space coordinates."""
    return manifold.projx(jnp.concatenate([jnp.zeros_like(space[..., :1]), space], -1))
