"""Beta concatenation: several points of balls as one point of a ball of more dimensions (Shimizu et al. 2021, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, lgamma

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds.signed import Signed
from port_jax.manifolds.stereographic.gyrogroup import expmap0, logmap0

__all__ = ["beta_concatenate", "beta_join", "beta_ratio"]


def beta_ratio(whole: int, part: int) -> float:
    """B(whole/2, 1/2)/B(part/2, 1/2), by which a part's tangent vector is shortened: the mean length of normal vectors stays."""
    log_beta = lambda n: lgamma(n / 2) - lgamma((n + 1) / 2)  # noqa: E731  of B(n/2, 1/2)/√π
    return exp(log_beta(whole) - log_beta(part))


def beta_concatenate(x: Float[Array, "*batch parts d"], k: Signed) -> Float[Array, "*batch parts*d"]:
    """exp_0 of the tangent vectors B(parts d/2, 1/2)/B(d/2, 1/2) log_0(x_i) side by side."""
    parts, d = x.shape[-2:]
    return expmap0(beta_ratio(parts * d, d) * logmap0(x, k).reshape(*x.shape[:-2], parts * d), k)


def beta_join(xs: Sequence[Float[Array, "*batch _"]], k: Signed) -> Float[Array, "*batch n"]:
    """The same of points of any dimensions dᵢ: exp_0 of B(n/2, 1/2)/B(dᵢ/2, 1/2) log_0(xᵢ) side by side, n = Σ dᵢ."""
    whole = sum(x.shape[-1] for x in xs)
    return expmap0(jnp.concatenate([beta_ratio(whole, x.shape[-1]) * logmap0(x, k) for x in xs], -1), k)
