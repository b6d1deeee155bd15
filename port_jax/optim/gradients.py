"""Gradients at points other than those at which they were taken, for transformations around a Riemannian optimizer."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds.base import Manifold
from port_jax.optim import scalars, trees
from port_jax.types import Manifolds, Params, Updates

__all__ = ["carry", "flat", "flattened", "norm", "riemannian"]


def flat(manifold: Manifold, point: Array, tangent: Array) -> Array:
    """The covector v -> <tangent, v>_point: an ambient gradient g with egrad2rgrad(point, g) = tangent."""
    return jnp.conj(jax.grad(lambda v: jnp.sum(jnp.real(manifold.inner(point, tangent, v))))(tangent))


def carry(manifold: Manifold, start: Array, end: Array, grad: Array) -> Array:
    """The ambient gradient at `end` whose Riemannian gradient is the transport of the one at `start`."""
    return flat(manifold, end, manifold.transp(start, end, manifold.egrad2rgrad(start, grad)))


def norm(manifolds: Sequence[Manifold], points: Sequence[Array], tangents: Sequence[Array | None]) -> Float[Array, ""]:
    """The norm of a tangent to the product of the manifolds: sqrt(sum of <u, u>); gradient 0 at 0. None counts as 0."""
    each = zip(manifolds, *(_wide(arrays) for arrays in (points, tangents)), strict=True)
    squares = [jnp.sum(manifold.inner(point, u)) for manifold, point, u in each if u is not None]
    total = functools.reduce(operator.add, squares) if squares else jnp.zeros([])
    return jnp.where(total > 0, jnp.sqrt(jnp.where(total > 0, total, 1)), 0)


def _wide(arrays: Sequence[Array | None]) -> list[Array | None]:
    """The arrays in float32 at least, so that sums of squares do not overflow in float16."""
    return [a if a is None else a.astype(scalars.working_type(a.dtype)) for a in arrays]


def riemannian(manifolds: Sequence[Manifold], points: Sequence[Array], grads: Sequence[Array | None]) -> list[Array | None]:
    """The Riemannian gradients of ambient ones; None stays None."""
    return [None if g is None else manifold.egrad2rgrad(point, g) for manifold, point, g in zip(manifolds, points, grads, strict=True)]


def flattened(manifolds: Manifolds, params: Params, grads: Updates) -> tuple[list[Manifold], list[Array], list[Array | None], Any]:
    """The manifolds, points and gradients of a tree of parameters in the same order, and the parameters' structure."""
    points, structure = jax.tree.flatten(params)
    return trees.match_manifolds(manifolds, params), points, trees.match_gradients(grads, params), structure
