"""The state that a training run carries from step to step, and the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from port_jax.types import Params

__all__ = ["Metrics", "Step", "TrainState", "TrainingError", "gradient_step", "train_state"]

Metrics = Mapping[str, Float[Array, ""]]
Loss = Callable[[Any, Any, PRNGKeyArray], Float[Array, ""] | tuple[Float[Array, ""], Metrics]]


class TrainingError(RuntimeError):
    """A run that cannot continue as asked; the message names what was found and the remedy."""


class TrainState(NamedTuple):
    """A pytree: parameters, the optimizer's state, the number of steps made, and the key from which all randomness comes."""

    params: Params
    opt_state: PyTree[Array]
    step: Int[Array, ""]
    key: PRNGKeyArray


Step = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
"""(state, batch) -> the next state and the numbers to record, "loss" among them. It increases `step` by one."""


def train_state(params: Params, optimizer: Any, key: PRNGKeyArray, opt_state: Any = None) -> TrainState:
    """The state before the first step; `opt_state` is an existing optimizer state, such as that of a converted checkpoint."""
    state = optimizer.init(params) if opt_state is None else opt_state
    return TrainState(params, state, jnp.zeros((), jnp.int32), key)


def gradient_step(loss: Loss, optimizer: optax.GradientTransformation) -> Step:
    """One step down the gradient of `loss(params, batch, key)`.

    The loss is a number, or (a number, more numbers to record). Its key is the state's, folded with the number of the step, so that a
    step draws the same dropout masks whether or not the run was interrupted before it. The loss is passed to the optimizer as
    `value`, for transformations that need it.
    """
    update = optax.with_extra_args_support(optimizer).update

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)

        def value(params: Params) -> tuple[Array, Metrics]:
            out = loss(params, batch, key)
            return out if isinstance(out, tuple) else (out, {})

        (found, more), grads = jax.value_and_grad(value, has_aux=True)(state.params)
        updates, opt_state = update(grads, state.opt_state, state.params, value=found)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, opt_state, state.step + 1, state.key), {"loss": found, **more}

    return step
