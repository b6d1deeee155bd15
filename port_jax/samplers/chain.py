"""The type of a sampler, the chains that it makes, and what samplers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from port_jax.manifolds.base import Manifold
from port_jax.optim import trees
from port_jax.types import Manifolds, Params

__all__ = ["Chain", "Info", "LogDensity", "Sampler", "found_reversible", "kinetic", "log_density", "sample", "velocities"]

LogDensity = Callable[[Any], Float[Array, ""]]


class Info(NamedTuple):
    """The outcome of a step.

    log_prob: that of the point after the step. acceptance: the probability with which the proposal was accepted. accepted: whether it was.
    """

    log_prob: Float[Array, ""]
    acceptance: Float[Array, ""]
    accepted: Bool[Array, ""]


class Sampler(NamedTuple):
    """step(key, params) -> the next params and an `Info`; a pure function for jit, vmap over keys, or scan."""

    step: Callable[[PRNGKeyArray, Any], tuple[Any, Info]]


class Chain(NamedTuple):
    """params: the tree of parameters with a leading axis of samples. info: the same axis."""

    params: Params
    info: Info


def sample(sampler: Sampler, key: PRNGKeyArray, params: Params, num_samples: int, burn_in: int = 0, thin: int = 1) -> Chain:
    """One chain from `params`: burn_in steps are dropped, then every thin-th of num_samples * thin steps is kept."""

    def step(params: Params, key: PRNGKeyArray) -> tuple[Any, Info]:
        return sampler.step(key, params)

    def keep(params: Params, key: PRNGKeyArray) -> tuple[Any, tuple[Any, Info]]:
        params, info = jax.lax.scan(step, params, jax.random.split(key, thin))
        return params, (params, jax.tree.map(lambda x: x[-1], info))

    first, later = jax.random.split(key)
    params, _ = jax.lax.scan(step, params, jax.random.split(first, burn_in))
    _, (samples, info) = jax.lax.scan(keep, params, jax.random.split(later, num_samples))
    return Chain(samples, info)


def found_reversible(manifolds: Manifolds, params: Params) -> list[Manifold]:
    """The manifold of each parameter. Raises ValueError, with the path, for one without a reversible retraction."""
    found = trees.match_manifolds(manifolds, params)
    for path, manifold in zip(trees.flatten(params)[0], found, strict=True):
        if not manifold.reversible:
            raise ValueError(
                f"parameter {trees.show(path)} is on {type(manifold).__name__}, whose retraction is not reversible; "
                "samplers take Euclidean, CanonicalStiefel, the Exact forms, for instance PoincareBallExact, and Scaled and "
                "products of these"
            )
    return found


def velocities(key: PRNGKeyArray, manifolds: Sequence[Manifold], points: Sequence[Array]) -> list[Array]:
    """Standard normal vectors of the tangent spaces: in an orthonormal basis of the metric, independent N(0, 1)."""
    keys = jax.random.split(key, len(points))
    return [
        manifold.sqrt_cometric(point, jax.random.normal(k, point.shape, point.dtype))
        for k, manifold, point in zip(keys, manifolds, points, strict=True)
    ]


def log_density(log_prob: LogDensity, manifolds: Sequence[Manifold], structure: Any) -> Callable[..., Any]:
    """A function from points to the logarithm of the density and its Riemannian gradients."""
    value_and_grad = jax.value_and_grad(lambda points: log_prob(structure.unflatten(points)))

    def evaluated(points: Sequence[Array]) -> tuple[Float[Array, ""], list[Array]]:
        value, grads = value_and_grad(list(points))
        return value, [m.gradient(p, g) for m, p, g in zip(manifolds, points, grads, strict=True)]

    return evaluated


def kinetic(manifolds: Sequence[Manifold], points: Sequence[Array], tangents: Sequence[Array]) -> Float[Array, ""]:
    """Half the sum of the squared norms."""
    parts = [jnp.sum(m.inner(p, u)) for m, p, u in zip(manifolds, points, tangents, strict=True)]
    return sum(parts, jnp.zeros([])) / 2
