"""Hyperparameters for one step: values or schedules, in the precision of the parameter on which they act."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

__all__ = ["Scalar", "ScalarOrSchedule", "at_step", "bias_correction", "cast", "check_range", "working_type"]

Scalar = float | Float[Array, ""]
ScalarOrSchedule = Scalar | Callable[[Int[Array, ""]], Scalar]


def at_step(value: ScalarOrSchedule, step: Int[Array, ""]) -> Scalar:
    """The value of a schedule at `step` (0 at the first update), or the value itself."""
    return value(step) if callable(value) else value


def cast(value: Scalar, dtype: DTypeLike) -> Scalar:
    """An array in the real type of `dtype`, so that it promotes nothing; a Python number is unchanged, weakly typed."""
    return value.astype(jnp.finfo(dtype).dtype) if isinstance(value, jax.Array) else value


def working_type(dtype: DTypeLike) -> Any:
    """The type in which a parameter of type `dtype` moves: its own, but at least float32."""
    return jnp.promote_types(dtype, jnp.float32)


def bias_correction(decay: Scalar, count: Int[Array, ""], dtype: DTypeLike) -> Float[Array, ""]:
    """1 - decay^count, as -expm1(count log decay): accurate to 3e-7 in float32, where the error of 1 - decay**count is 2e-5.

    The logarithm of a Python number is taken in float64.
    """
    real = jnp.finfo(dtype).dtype
    if isinstance(decay, jax.Array):
        return -jnp.expm1(count.astype(real) * jnp.log1p(decay.astype(real) - 1))
    rate = math.log(decay) if decay > 0 else -math.inf
    return -jnp.expm1(count.astype(real) * rate)


def check_range(name: str, value: ScalarOrSchedule, low: float, high: float = math.inf) -> None:
    """Raises ValueError for a number outside [low, high); traced values and schedules are not checked."""
    if isinstance(value, int | float) and not low <= value < high:
        raise ValueError(f"{name} is {value}; it has to lie in [{low}, {high})")
