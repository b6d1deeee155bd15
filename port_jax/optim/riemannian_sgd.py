"""Riemannian SGD with momentum (Bonnabel, IEEE TAC 2013), with the update order of geoopt's `RiemannianSGD`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from port_jax.manifolds.base import Manifold
from port_jax.optim import scalars, trees
from port_jax.optim.scalars import Scalar, ScalarOrSchedule
from port_jax.types import Manifolds, OptState, Params, Updates

__all__ = ["Hyper", "RiemannianSGDState", "check_momentum", "descending", "riemannian_sgd", "sgd_step"]


class RiemannianSGDState(NamedTuple):
    """State of `riemannian_sgd`.

    step: updates made, the argument of schedules and of `stabilize`. count: a tree with the structure of
    the parameters, the number of gradients that each has seen (int32); at 0 its momentum has not begun. momentum: a tree of
    buffers, tangent at the points after the first step; None without momentum.
    """

    step: Int[Array, ""]
    count: PyTree[Int[Array, ""]]
    momentum: PyTree[Array] | None


def riemannian_sgd(
    learning_rate: ScalarOrSchedule,
    momentum: Scalar = 0.0,
    dampening: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    nesterov: bool = False,
    stabilize: int | None = None,
    *,
    manifolds: Manifolds,
    order: Sequence[str] | None = None,
) -> optax.GradientTransformation:
    """Gradient descent by retraction, with a transported momentum.

    With the parameter p on the manifold M and its Euclidean gradient g:

        b = g                                                    at the first gradient of p, before weight decay
        r = M.egrad2rgrad(p, g + weight_decay p)
        b = momentum b + (1 - dampening) r
        d = r + momentum b with nesterov, else b
        p, b = M.retr_transp(p, -learning_rate d, b)

    and p = M.retr(p, -learning_rate r) without momentum. The buffer begins with the Euclidean gradient, without
    weight decay and metric, as in geoopt: a buffer that begins with zeros would give other iterates.

    The updates are new - old, as described in `riemannian_adam`.

    Arguments:
        learning_rate: a number, or a schedule of the number of updates before this one.
        momentum: with the Python number 0 there are no buffers; with any other number or a traced value there are.
        weight_decay: L2, added to the Euclidean gradient.
        stabilize: after every `stabilize`-th update all points, including those without a gradient, are projected
            (`projx`) and their buffers made tangent again (`proju`).
        manifolds, order: as in `riemannian_adam`.

    Errors: those of `riemannian_adam`; ValueError for nesterov without momentum or with dampening.
    """
    scalars.check_range("weight_decay", weight_decay, 0)
    with_buffers = check_momentum(learning_rate, momentum, dampening, nesterov, stabilize)

    numbers = momentum, dampening, weight_decay
    return descending("riemannian_sgd", sgd_step, learning_rate, numbers, nesterov, stabilize, with_buffers, manifolds, order)


def descending(
    name: str,
    step_of: Callable[..., tuple[Array, Array | None]],
    learning_rate: ScalarOrSchedule,
    numbers: tuple[Scalar, Scalar, Scalar],
    nesterov: bool,
    stabilize: int | None,
    with_buffers: bool,
    manifolds: Manifolds,
    order: Sequence[str] | None,
) -> optax.GradientTransformation:
    """The transformation of this name that moves each parameter by `step_of`, with the arguments and results of `sgd_step`. numbers:
    momentum, dampening, weight decay."""

    def init(params: Params) -> OptState:
        trees.check_parameters(trees.match_manifolds(manifolds, params), params)
        return RiemannianSGDState(
            step=jnp.zeros([], jnp.int32),
            count=jax.tree.map(lambda p: jnp.zeros([], jnp.int32), params),
            momentum=jax.tree.map(jnp.zeros_like, params) if with_buffers else None,
        )

    def update(updates: Updates, state: Any, params: Params = None) -> tuple[Updates, OptState]:
        if params is None:
            raise ValueError(f"{name} moves points: call update(gradients, state, params)")
        points, structure = jax.tree.flatten(params)
        gradients = trees.match_gradients(updates, params)
        count = trees.match_state(state.count, structure, "count")
        buffers = trees.match_state(state.momentum, structure, "momentum") if with_buffers else trees.nothing(points)
        hyper = Hyper(scalars.at_step(learning_rate, state.step), *numbers)
        moved = list(points)
        for i, manifold in trees.in_turn(manifolds, order, params, moved):
            if (grad := gradients[i]) is not None:
                first = count[i] == 0
                count[i] = count[i] + 1
                moved[i], buffers[i] = step_of(manifold, moved[i], grad, buffers[i], first, hyper, nesterov)
        step = state.step + 1
        if stabilize is not None:
            found = trees.match_manifolds(manifolds, params if order is None else structure.unflatten(moved))
            moved, buffers = trees.stabilized(step % stabilize == 0, found, moved, buffers, [True] * len(points))
        change = [new - old for new, old in zip(moved, points, strict=True)]
        return structure.unflatten(change), RiemannianSGDState(
            step=step,
            count=structure.unflatten(count),
            momentum=structure.unflatten(buffers) if with_buffers else None,
        )

    return optax.GradientTransformation(init, update)


def check_momentum(learning_rate: ScalarOrSchedule, momentum: Scalar, dampening: Scalar, nesterov: bool, stabilize: int | None) -> bool:
    """Whether there are buffers. Raises ValueError for settings that are out of range or exclude each other."""
    scalars.check_range("learning_rate", learning_rate, 0)
    scalars.check_range("momentum", momentum, 0)
    if stabilize is not None:
        scalars.check_range("stabilize", stabilize, 1)
    with_buffers = isinstance(momentum, jax.Array) or momentum > 0
    damped = isinstance(dampening, int | float) and dampening != 0
    if nesterov and (damped or not with_buffers):
        raise ValueError(f"nesterov takes a momentum above 0 and dampening 0; found momentum {momentum}, dampening {dampening}")
    return with_buffers


class Hyper(NamedTuple):
    """The numbers of one step."""

    learning_rate: Scalar
    momentum: Scalar
    dampening: Scalar
    weight_decay: Scalar


def sgd_step(
    manifold: Manifold,
    point: Array,
    grad: Array,
    buffer: Array | None,
    first: Array,
    hyper: Hyper,
    nesterov: bool,
) -> tuple[Array, Array | None]:
    """One step of one parameter: the new point and its momentum buffer. `first`: whether the buffer has not begun."""
    kept, dtype = point.dtype, scalars.working_type(point.dtype)
    point, grad = point.astype(dtype), grad.astype(dtype)
    rate, momentum, dampening, decay = (scalars.cast(x, dtype) for x in hyper)
    # r = grad f(p) + decay p, as a Riemannian gradient
    if buffer is None:
        return _rounded(manifold, manifold.descend(point, grad + decay * point, rate), kept), None
    r = manifold.egrad2rgrad(point, grad + decay * point)
    # b = momentum b + (1 - dampening) r, from the raw gradient in the first step
    b = momentum * jnp.where(first, grad, buffer.astype(dtype)) + (1 - dampening) * r
    direction = r + momentum * b if nesterov else b
    point, b = manifold.retr_transp_ambient(point, -rate * direction, b)
    return _rounded(manifold, point, kept), b.astype(kept)


def _rounded(manifold: Manifold, point: Array, kept: Any) -> Array:
    return point if point.dtype == kept else manifold.narrowed(point, kept)
