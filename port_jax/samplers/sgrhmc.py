"""Stochastic gradient Riemannian Hamiltonian Monte Carlo."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from port_jax.samplers.chain import Info, LogDensity, Sampler, found_reversible, log_density, velocities
from port_jax.types import Manifolds, Params

__all__ = ["sgrhmc"]


def sgrhmc(log_prob: LogDensity, epsilon: float = 1e-3, n_steps: int = 1, alpha: float = 0.1, *, manifolds: Manifolds) -> Sampler:
    """n_steps + 1 steps of Hamiltonian dynamics with friction and noise, from a new velocity; nothing is rejected.

        v = sqrt(epsilon) n                                                 n standard normal in the tangent space at p
        p, v = M.retr_transp(p, v, v)
        v = (1 - alpha) v + epsilon grad log_prob(p) + sqrt(2 alpha epsilon) n        n_steps + 1 times

    log_prob is the logarithm of a density with respect to the Riemannian volume, up to a constant; it may be noisy. The
    distribution is that of log_prob to order alpha and epsilon.

    geoopt starts from v = epsilon n with n in coordinates, adds the Euclidean gradient at the point before the move,
    and draws noise by egrad2rgrad; on Euclidean() its chains agree with these once n_steps alpha is large.

    Source: Chen, Fox and Guestrin, ICML 2014, equation 15.
    Errors: ValueError for epsilon not above 0, n_steps below 0, alpha outside [0, 1], a manifold without a reversible
    retraction.
    """
    if not epsilon > 0 or n_steps < 0 or not 0 <= alpha <= 1:
        raise ValueError(f"epsilon is {epsilon}, n_steps {n_steps}, alpha {alpha}; they have to be above 0, 0 or more, and in [0, 1]")

    def step(key: PRNGKeyArray, params: Params) -> tuple[Any, Info]:
        found = found_reversible(manifolds, params)
        start, structure = jax.tree.flatten(params)
        density = log_density(log_prob, found, structure)
        first, *later = jax.random.split(key, n_steps + 2)

        def move(carry: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
            points, v = carry
            moved = [m.retr_transp(p, u, u) for m, p, u in zip(found, points, v, strict=True)]
            points = [p for p, _ in moved]
            value, grads = density(points)
            noise = velocities(key, found, points)
            v = [
                (1 - alpha) * u + epsilon * g + math.sqrt(2 * alpha * epsilon) * n for (_, u), g, n in zip(moved, grads, noise, strict=True)
            ]
            return (points, v), value

        v = [math.sqrt(epsilon) * n for n in velocities(first, found, start)]
        (points, _), values = jax.lax.scan(move, (start, v), jnp.stack(later))
        return structure.unflatten(points), Info(values[-1], jnp.ones([]), jnp.array(True))

    return Sampler(step)
