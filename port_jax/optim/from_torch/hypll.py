"""HypLL's RiemannianSGD, whose momentum on a ball is made of the first gradient of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from port_jax.manifolds.base import Manifold
from port_jax.optim import scalars, trees
from port_jax.optim.riemannian_sgd import Hyper, RiemannianSGDState, check_momentum, sgd_step
from port_jax.optim.scalars import Scalar, ScalarOrSchedule
from port_jax.types import Manifolds, OptState, Params, Updates

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

    def init(params: Params) -> OptState:
        trees.check_parameters(trees.match_manifolds(manifolds, params), params)
        counts = jax.tree.map(lambda p: jnp.zeros([], jnp.int32), params)
        return RiemannianSGDState(jnp.zeros([], jnp.int32), counts, jax.tree.map(jnp.zeros_like, params))

    def update(updates: Updates, state: Any, params: Params = None) -> tuple[Updates, OptState]:
        if params is None:
            raise ValueError("first_gradient_sgd moves points: call update(gradients, state, params)")
        points, structure = jax.tree.flatten(params)
        gradients = trees.match_gradients(updates, params)
        count, buffers = (trees.match_state(getattr(state, name), structure, name) for name in ("count", "momentum"))
        hyper = Hyper(scalars.at_step(learning_rate, state.step), momentum, dampening, weight_decay)
        moved = list(points)
        for i, manifold in trees.in_turn(manifolds, order, params, moved):
            if (grad := gradients[i]) is not None:
                first = count[i] == 0
                count[i] = count[i] + 1
                step = sgd_step if manifold.flat else first_gradient_step
                moved[i], buffers[i] = step(manifold, moved[i], grad, buffers[i], first, hyper, nesterov)
        change = [new - old for new, old in zip(moved, points, strict=True)]
        return structure.unflatten(change), RiemannianSGDState(state.step + 1, structure.unflatten(count), structure.unflatten(buffers))

    return optax.GradientTransformation(init, update)


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
