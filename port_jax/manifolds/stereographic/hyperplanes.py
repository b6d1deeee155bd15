"""Geodesic hyperplanes of the stereographic model of curvature k, and distances to them, elementwise and for all pairs.

The distance of x to the hyperplane through p with normal a is arsin_k(2<v, a>/((1 + k|v|²)|a|)) for v = (-p) + x (Ganea et al. 2018,
theorem 5), computed here from w = x - p as k|w|²<p, a> + (1 + k|p|²)<w, a>, which keeps its digits near p.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.pairs import differences
from port_jax.manifolds.row_products import dot
from port_jax.manifolds.signed import Signed, as_curvature, number
from port_jax.manifolds.stereographic.metric import conformal

__all__ = ["dist2plane", "dist2planes"]

Vector = Float[Array, "*batch d"]
Scalar = Float[Array, "*batch 1"]


def dist2plane(x: Vector, p: Vector, a: Vector, k: Signed, *, signed: bool = False, scaled: bool = False) -> Scalar:
    """Distance from x to the geodesic hyperplane through p with normal a; with a sign for the side if `signed`, times |a| if `scaled`."""
    curvature = as_curvature(k)
    k, w = curvature.value, x - p
    w2, pa = dot(w, w), dot(p, a)
    along = k * w2 * pa + conformal(p, k) * dot(w, a)
    if curvature.spherical:
        usual = -(1 + 2 * k * dot(p, x) - k * dot(x, x)) * pa + conformal(p, k) * dot(x, a)
        along = jnp.where(k * w2 > 1, usual, along)
    if not signed:
        along = along * jnp.sign(along)
    return _distance(along, conformal(x, k), conformal(p, k), trig.sqrt_or_zero(dot(a, a)), curvature, scaled=scaled)


def dist2planes(x: Float[Array, "n d"], p: Float[Array, "m d"], a: Float[Array, "m d"], k: Signed) -> Float[Array, "n m"]:
    """Signed distances of x_i to the hyperplane through p_j with normal a_j, for all i and j and k <= 0, without an array [n, m, d]."""
    w2, along_a = differences(x, p, a)
    along = number(k) * w2 * dot(p, a).T + conformal(p, k).T * along_a
    return _distance(along, conformal(x, k), conformal(p, k).T, trig.sqrt_or_zero(dot(a, a)).T, k)


def _distance(along: Array, ax: Array, ap: Array, norm: Array, k: Signed, *, scaled: bool = False) -> Array:
    """The distance from along = k|w|²<p, a> + (1 + k|p|²)<w, a>, the 1 + k|x|² and 1 + k|p|², and |a|."""
    length = jnp.where(norm > 0, norm, 1)
    distance = trig.arsin_k(2 * along / (ap * ax * length), k)
    return distance * norm if scaled else distance
