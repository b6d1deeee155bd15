"""Riemannian Hamiltonian Monte Carlo."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from port_jax.samplers.chain import Info, LogDensity, Sampler, found_reversible, kinetic, log_density, velocities
from port_jax.types import Manifolds, Params, Updates

__all__ = ["rhmc"]


def rhmc(log_prob: LogDensity, epsilon: float = 1e-3, n_steps: int = 1, *, manifolds: Manifolds) -> Sampler:
    """n_steps leapfrog steps along geodesics from a new velocity, then a Metropolis test.

        r ~ standard normal in the tangent space at p,      H = |r|_p^2 / 2 - log_prob(p)
        r = r + epsilon / 2 grad log_prob(p)                                            n_steps times these three
        p, r = M.retr_transp(p, epsilon r, r)
        r = r + epsilon / 2 grad log_prob(p)
        accepted with probability min(1, exp(H_before - H_after))

    log_prob is the logarithm of a density with respect to the Riemannian volume, up to a constant. The distribution is
    exact if the retraction is the exponential map and the transport is parallel (Euclidean, the Exact forms); on
    CanonicalStiefel its error is of order epsilon^2. A proposal whose energy is not finite is rejected.

    geoopt begins with a whole kick instead of a half one, and measures r in coordinates; its chains agree with these to
    order epsilon on Euclidean(), and have another distribution on a curved metric.

    Source: Byrne and Girolami, Scand. J. Stat. 40, 2013, algorithm 1.
    Errors: ValueError for epsilon not above 0, n_steps below 1, a manifold without a reversible retraction.
    """
    if not epsilon > 0 or n_steps < 1:
        raise ValueError(f"epsilon is {epsilon} and n_steps {n_steps}; they have to be above 0")

    def step(key: PRNGKeyArray, params: Params) -> tuple[Any, Info]:
        found = found_reversible(manifolds, params)
        start, structure = jax.tree.flatten(params)
        density = log_density(log_prob, found, structure)
        for_velocity, for_test = jax.random.split(key)
        r = velocities(for_velocity, found, start)
        old, grads = density(start)
        before = kinetic(found, start, r) - old

        def leap(_: int, carry: Any) -> Any:
            points, r, grads, _ = carry
            r = _kicked(r, grads, epsilon / 2)
            moved = [m.retr_transp(p, epsilon * u, u) for m, p, u in zip(found, points, r, strict=True)]
            points, r = [p for p, _ in moved], [u for _, u in moved]
            value, grads = density(points)
            return points, _kicked(r, grads, epsilon / 2), grads, value

        points, r, _, new = jax.lax.fori_loop(0, n_steps, leap, (start, r, grads, old))
        gain = before - (kinetic(found, points, r) - new)
        gain = jnp.where(jnp.isfinite(gain), gain, -jnp.inf)
        accepted = jnp.log(jax.random.uniform(for_test, (), gain.dtype)) < gain
        points = [jnp.where(accepted, p, q) for p, q in zip(points, start, strict=True)]
        info = Info(jnp.where(accepted, new, old), jnp.exp(jnp.minimum(gain, 0)), accepted)
        return structure.unflatten(points), info

    return Sampler(step)


def _kicked(r: Any, grads: Updates, by: float) -> list[Any]:
    return [u + by * g for u, g in zip(r, grads, strict=True)]
