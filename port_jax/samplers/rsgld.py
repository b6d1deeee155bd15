"""Riemannian stochastic gradient Langevin dynamics."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from port_jax.samplers.chain import Info, LogDensity, Sampler, found_reversible, log_density, velocities
from port_jax.types import Manifolds, Params

__all__ = ["rsgld"]


def rsgld(log_prob: LogDensity, epsilon: float = 1e-3, *, manifolds: Manifolds) -> Sampler:
    """One step of Langevin dynamics by retraction, without a correction: the distribution is that of log_prob to order epsilon.

        p = M.retr(p, epsilon / 2 grad log_prob(p) + sqrt(epsilon) n),      n standard normal in the tangent space at p

    log_prob is the logarithm of a density with respect to the Riemannian volume, up to a constant; it may be noisy
    (minibatches). geoopt draws n by egrad2rgrad from ambient noise, whose covariance is the square of the inverse
    metric, which gives another distribution if the metric is not flat; on Euclidean() the two agree.

    Source: Welling and Teh, ICML 2011, equation 4; on manifolds Girolami and Calderhead, JRSS B 73, 2011, section 4.
    Errors: ValueError for a step that is not above 0, or a manifold without a reversible retraction.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon is {epsilon}; it has to be above 0")

    def step(key: PRNGKeyArray, params: Params) -> tuple[Any, Info]:
        found = found_reversible(manifolds, params)
        points, structure = jax.tree.flatten(params)
        value, grads = log_density(log_prob, found, structure)(points)
        noise = velocities(key, found, points)
        points = [m.retr(p, epsilon / 2 * g + math.sqrt(epsilon) * n) for m, p, g, n in zip(found, points, grads, noise, strict=True)]
        return structure.unflatten(points), Info(value, jnp.ones([]), jnp.array(True))

    return Sampler(step)
