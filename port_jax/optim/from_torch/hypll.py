"""HypLL's RiemannianSGD, whose momentum on a ball is made of the first gradient of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array

from port_jax.manifolds.base import Manifold
from port_jax.optim import scalars
from port_jax.optim.riemannian_sgd import Hyper, check_momentum, descending, sgd_step
from port_jax.optim.scalars import Scalar, ScalarOrSchedule
from port_jax.types import Manifolds

__all__ = ["first_gradient_sgd", "first_gradient_step"]


def first_gradient_sgd(
    learning_rate: ScalarOrSchedule,
    momentum: Scalar,
    dampening: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    nesterov: bool = False,
    *,
    manifolds: Manifolds,
    order: Sequence[str] | None = None,
) -> optax.GradientTransformation:
    """Gradient descent with a momentum, as maxvanspengler/hyperbolic_learning_library does it at commit 62ea788.

    With the parameter p on the manifold M, its Euclidean gradient g, and b = g at the first gradient of p, before weight decay:

        r = M.egrad2rgrad(p, g + weight_decay p)
        u = momentum M.egrad2rgrad(p, b) + (1 - dampening) r
        p = M.expmap(p, -learning_rate d),   d = r + momentum u with nesterov, else u

    On flat parameters b = u then, which is `riemannian_sgd`. Elsewhere **b stays the first gradient for ever**: HypLL scales a copy of its
    buffer, transports that, and forgets it. The state, arguments and errors are those of `riemannian_sgd`.
    """
    scalars.check_range("weight_decay", weight_decay, 0)
    check_momentum(learning_rate, momentum, dampening, nesterov, None)

    def step_of(manifold: Manifold, *given: Any) -> tuple[Array, Array | None]:
        return (sgd_step if manifold.flat else first_gradient_step)(manifold, *given)

    numbers = momentum, dampening, weight_decay
    return descending("first_gradient_sgd", step_of, learning_rate, numbers, nesterov, None, True, manifolds, order)


def first_gradient_step(
    manifold: Manifold, point: Array, grad: Array, buffer: Array, first: Array, hyper: Hyper, nesterov: bool
) -> tuple[Array, Array]:
    """One step of one parameter on a curved manifold: the new point, and the first gradient. `first`: whether that is this one."""
    kept, dtype = point.dtype, scalars.working_type(point.dtype)
    point, grad, buffer = (x.astype(dtype) for x in (point, grad, buffer))
    rate, momentum, dampening, decay = (scalars.cast(x, dtype) for x in hyper)
    buffer = jnp.where(first, grad, buffer)
    r = manifold.egrad2rgrad(point, grad + decay * point)
    u = momentum * manifold.egrad2rgrad(point, buffer) + (1 - dampening) * r
    moved = manifold.expmap(point, -rate * (r + momentum * u if nesterov else u))
    return (moved if kept == dtype else manifold.narrowed(moved, kept)), buffer.astype(kept)
