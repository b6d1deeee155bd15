"""torch.optim's SGD, RMSprop and Adagrad, entry by entry, with torch's buffers under torch's names.

optax has transformations of these names that compute other numbers: no dampening, an epsilon inside the root, the learning rate
before the momentum, an accumulator that starts at 0.1. torch's Adam and AdamW are `riemannian_adam` and
`riemannian_adamw` on Euclidean(). Source: the pseudocode in the documentation of torch.optim 2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from port_jax.optim import scalars, trees
from port_jax.optim.scalars import Scalar, ScalarOrSchedule
from port_jax.types import OptState, Params, Updates

__all__ = ["TorchState", "adagrad", "rmsprop", "sgd"]

Buffers = dict[str, Array]
Rule = Callable[[Array, Buffers, Int[Array, ""], Scalar], tuple[Array, Buffers]]


class TorchState(NamedTuple):
    """step: updates made. count: the number of gradients that each parameter has seen. buffers: trees by torch's names."""

    step: Int[Array, ""]
    count: PyTree[Int[Array, ""]]
    buffers: dict[str, PyTree[Array]]


def sgd(
    learning_rate: ScalarOrSchedule,
    momentum: Scalar = 0.0,
    dampening: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """g = grad + weight_decay p; b = g in the first step, then momentum b + (1 - dampening) g; p -= lr b.

    With nesterov, p -= lr (g + momentum b). A momentum given as an array has a buffer; the number 0 has none.
    """
    kept = isinstance(momentum, jax.Array) or momentum != 0

    def rule(g: Array, buffers: Buffers, count: Int[Array, ""], rate: Scalar) -> tuple[Array, Buffers]:
        if not kept:
            return -rate * g, {}
        b = buffers["momentum_buffer"]
        b = jnp.where(count == 1, g, scalars.cast(momentum, g.dtype) * b + (1 - dampening) * g)
        direction = g + scalars.cast(momentum, g.dtype) * b if nesterov else b
        return -rate * direction, {"momentum_buffer": b}

    return _by_entry(rule, {"momentum_buffer": 0.0} if kept else {}, learning_rate, weight_decay)


def rmsprop(
    learning_rate: ScalarOrSchedule = 1e-2,
    alpha: Scalar = 0.99,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    momentum: Scalar = 0.0,
    centered: bool = False,
) -> optax.GradientTransformation:
    """v = alpha v + (1 - alpha) g^2; b = momentum b + g / (sqrt(v - a^2) + eps); p -= lr b; a is the mean of g, or 0."""
    kept = isinstance(momentum, jax.Array) or momentum > 0
    names = ["square_avg", *(["grad_avg"] if centered else []), *(["momentum_buffer"] if kept else [])]

    def rule(g: Array, buffers: Buffers, count: Int[Array, ""], rate: Scalar) -> tuple[Array, Buffers]:
        new = {"square_avg": alpha * buffers["square_avg"] + (1 - alpha) * g * g}
        variance = new["square_avg"]
        if centered:
            new["grad_avg"] = buffers["grad_avg"] + (1 - alpha) * (g - buffers["grad_avg"])
            # below zero only by rounding, where torch returns NaN
            variance = jnp.maximum(variance - new["grad_avg"] ** 2, 0)
        direction = g / (jnp.sqrt(variance) + eps)
        if kept:
            direction = scalars.cast(momentum, g.dtype) * buffers["momentum_buffer"] + direction
            new["momentum_buffer"] = direction
        return -rate * direction, new

    return _by_entry(rule, dict.fromkeys(names, 0.0), learning_rate, weight_decay)


def adagrad(
    learning_rate: ScalarOrSchedule = 1e-2,
    lr_decay: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: Scalar = 1e-10,
) -> optax.GradientTransformation:
    """s = s + g^2; p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps), where t is the number of gradients seen."""

    def rule(g: Array, buffers: Buffers, count: Int[Array, ""], rate: Scalar) -> tuple[Array, Buffers]:
        total = buffers["sum"] + g * g
        rate = rate / (1 + (count - 1).astype(g.dtype) * lr_decay)
        return -rate * g / (jnp.sqrt(total) + eps), {"sum": total}

    return _by_entry(rule, {"sum": initial_accumulator_value}, learning_rate, weight_decay)


def _by_entry(
    rule: Rule, start: Mapping[str, float], learning_rate: ScalarOrSchedule, weight_decay: Scalar
) -> optax.GradientTransformation:
    """The rule applied to each parameter that has a gradient, with L2 decay added; the others do not change."""
    scalars.check_range("learning_rate", learning_rate, 0)
    scalars.check_range("weight_decay", weight_decay, 0)

    def init(params: Params) -> OptState:
        return TorchState(
            jnp.zeros([], jnp.int32),
            jax.tree.map(lambda p: jnp.zeros([], jnp.int32), params),
            {name: jax.tree.map(lambda p, x=x: jnp.full_like(p, x), params) for name, x in start.items()},
        )

    def update(updates: Updates, state: Any, params: Params = None) -> tuple[Updates, OptState]:
        if params is None:
            raise ValueError("torch's optimizers take the parameters: call update(gradients, state, params)")
        points, structure = jax.tree.flatten(params)
        count = trees.match_state(state.count, structure, "count")
        buffers = {name: trees.match_state(tree, structure, name) for name, tree in state.buffers.items()}
        rate = scalars.at_step(learning_rate, state.step)
        change = [jnp.zeros_like(p) for p in points]
        for i, grad in enumerate(trees.match_gradients(updates, params)):
            if grad is not None:
                p, dtype = points[i], scalars.working_type(points[i].dtype)
                g = grad.astype(dtype) + weight_decay * p.astype(dtype)
                own = {name: leaves[i].astype(dtype) for name, leaves in buffers.items()}
                count[i] = count[i] + 1
                moved, own = rule(g, own, count[i], scalars.cast(rate, dtype))
                change[i] = moved.astype(p.dtype)
                for name, buffer in own.items():
                    buffers[name][i] = buffer.astype(p.dtype)
        return structure.unflatten(change), TorchState(
            state.step + 1,
            structure.unflatten(count),
            {name: structure.unflatten(leaves) for name, leaves in buffers.items()},
        )

    return optax.GradientTransformation(init, update)
