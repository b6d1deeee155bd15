"""The learning rate of `torch.optim.lr_scheduler.ReduceLROnPlateau`, as a stateful schedule for optax."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from optax.schedules import StatefulSchedule

__all__ = ["PlateauState", "ReduceOnPlateau"]


class PlateauState(NamedTuple):
    """rate: the learning rate. best: the best metric so far. bad: steps since then. cooldown: how many more steps are not counted."""

    rate: Float[Array, ""]
    best: Float[Array, ""]
    bad: Int[Array, ""]
    cooldown: Int[Array, ""]


class ReduceOnPlateau(StatefulSchedule):
    """The rate falls by a factor when a metric has not improved for more than `patience` scheduler steps.

    It is made for a rate inside an optimizer, which on a manifold a later scaling of the updates cannot replace:

        adam = optax.inject_hyperparams(riemannian_adam, static_args=("manifolds", "order"))
        tx = adam(ReduceOnPlateau(1e-2, patience=5), manifolds=...)
        updates, state = tx.update(grads, state, params, value=loss)

    An update with `value` is one scheduler step of torch after that update; one without it (or with None) does
    not change the schedule, so pass an epoch's metric with the last update of the epoch. A NaN metric counts as
    no improvement.

    The arguments are torch's. Errors: ValueError for a factor of 1 or more, an unknown mode or threshold_mode.
    Source: the documentation of `ReduceLROnPlateau`, torch 2.13.
    """

    def __init__(
        self,
        lr: float,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1:
            raise ValueError(f"factor is {factor}; it has to be below 1")
        if mode not in ("min", "max"):
            raise ValueError(f"mode is {mode!r}; it has to be 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode is {threshold_mode!r}; it has to be 'rel' or 'abs'")
        self.lr, self.mode, self.factor, self.patience = lr, mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.min_lr, self.eps = cooldown, min_lr, eps

    def init(self) -> PlateauState:
        """The state before the first value: the rate is `lr`, the best value the worst possible one."""
        worst = math.inf if self.mode == "min" else -math.inf
        return self.resumed(self.lr, worst, 0, 0)

    def resumed(self, rate: float, best: float, bad: int, cooldown: int) -> PlateauState:
        """The state with the numbers of a torch scheduler: the group's lr, best, num_bad_epochs, cooldown_counter."""
        real = jnp.result_type(float)
        return PlateauState(
            jnp.asarray(rate, real),
            jnp.asarray(best, real),
            jnp.asarray(bad, jnp.int32),
            jnp.asarray(cooldown, jnp.int32),
        )

    def update(self, state: PlateauState, *, value: Any = None, **extra_args: Any) -> PlateauState:
        """The state after a `value`; without one, the same state."""
        if value is None:
            return state
        value = jnp.asarray(value, state.best.dtype)
        better = self._better(value, state.best)
        bad = jnp.where(better | (state.cooldown > 0), 0, state.bad + 1)
        cooldown = jnp.maximum(state.cooldown - 1, 0)
        due = bad > self.patience
        lower = jnp.maximum(state.rate * self.factor, self.min_lr)
        return PlateauState(
            rate=jnp.where(due & (state.rate - lower > self.eps), lower, state.rate),
            best=jnp.where(better, value, state.best),
            bad=jnp.where(due, 0, bad).astype(jnp.int32),
            cooldown=jnp.where(due, self.cooldown, cooldown).astype(jnp.int32),
        )

    def __call__(self, state: PlateauState, **extra_args: Any) -> Float[Array, ""]:
        return state.rate

    def _better(self, value: Array, best: Array) -> Array:
        sign = 1 if self.mode == "max" else -1
        margin = sign * self.threshold
        return sign * value > sign * (best * (1 + margin) if self.threshold_mode == "rel" else best + margin)
