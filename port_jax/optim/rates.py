"""The type of a learning rate's schedule, and the building blocks of `schedules`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

__all__ = [
    "Count",
    "Moves",
    "Rate",
    "Schedule",
    "absolute",
    "exactly",
    "half_cosine",
    "positive",
    "power",
    "proportional",
    "real",
    "tabulated",
]

Count = Int[Array, "..."]
Rate = Float[Array, "..."]
Moves = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Schedule:
    """A rate by the number of scheduler steps, and its effect on a rate that other schedules have changed.

    at: the rate, in closed form. moves: arrays (a, b) for an array of step numbers, the chainable form of the schedule:
    step n changes the rate to a rate + b (step 0 is the construction). base: the rate to which the schedule is relative.
    proportional: whether b is always 0, so that schedules chain as a product.
    """

    base: float
    at: Callable[[Count], Rate]
    moves: Callable[[np.ndarray], Moves]
    proportional: bool = False

    def __call__(self, count: Any) -> Rate:
        return self.at(jnp.asarray(count))

    def exactly(self, count: int) -> float:
        """The rate in float64, whatever the session's precision."""
        return float(exactly(self.at, np.asarray([count]))[0])


def proportional(lr: float, factor: Callable[[Count], Rate]) -> Schedule:
    """lr times a factor that depends on the step; it chains as a factor between steps."""

    def moves(n: np.ndarray) -> Moves:
        now, before = exactly(factor, n), exactly(factor, np.maximum(n - 1, 0))
        # a rate that has reached zero stays zero
        return np.where(n == 0, now, now / np.where(before == 0, 1, before)), np.zeros(n.shape)

    return Schedule(lr, lambda n: lr * factor(n), moves, proportional=True)


def absolute(lr: float, at: Callable[[Count], Rate]) -> Schedule:
    """A rate that does not depend on the previous one."""
    return Schedule(lr, at, lambda n: (np.zeros(n.shape), exactly(at, n)))


def tabulated(rates: np.ndarray) -> Callable[[Count], Rate]:
    """The rates of a table, and after its end the last one."""
    return lambda n: jnp.asarray(rates, real(0).dtype)[jnp.clip(n, 0, len(rates) - 1)]


def half_cosine(n: Count, period: Any) -> Rate:
    """(1 + cos(pi n / period)) / 2 for n in [0, 2 period]."""
    return jnp.sin(jnp.pi / 2 * (real(period - n) / period)) ** 2


def power(gamma: float, n: Count) -> Rate:
    """gamma^n with the logarithm taken in float64: with gamma in float32 the error of gamma^1000 would be 6e-5."""
    if gamma < 0:
        raise ValueError(f"gamma is {gamma}; it has to be 0 or more")
    if gamma == 0:
        return real(n == 0)
    return jnp.exp(real(n) * math.log(gamma))


def real(x: Any) -> Rate:
    """x in the session's floating type."""
    return jnp.asarray(x, jnp.result_type(float))


def exactly(at: Callable[[Count], Rate], n: np.ndarray) -> np.ndarray:
    """The closed form in float64, whatever the session's precision."""
    with jax.enable_x64(True):
        return np.asarray(jax.vmap(at)(jnp.asarray(n)), np.float64)


def positive(name: str, value: int | float) -> None:
    """Raises ValueError for a value that is not a whole number of 1 or more."""
    if value != int(value) or value < 1:
        raise ValueError(f"{name} is {value}; it has to be a whole number of 1 or more")
