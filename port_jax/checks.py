"""Checks of arguments. The errors name the argument, what was found and what to do. Of traced values only the shape is checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike

__all__ = ["as_array", "as_features", "as_indices", "as_numbers", "is_half", "on_host", "require_choice", "require_finite", "require_shape"]


def is_half(dtype: DTypeLike) -> bool:
    """Whether this is a floating-point type narrower than float32."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32


def as_numbers(name: str, value: Any, where: str = "", like: DTypeLike | None = None) -> jax.Array:
    """`value` as an array of floating-point or complex numbers: the one rule for arrays that users pass.

    Whatever numpy makes an array of is taken, lists and torch tensors on the CPU among them. Integers, truth values and lists, which have
    no floating-point type of their own, get the type `like`, by default JAX's (float64 if `jax_enable_x64` is set, else float32).

    Errors: TypeError for anything else. It names `where`, the argument, the type found, and the remedy.
    """
    array = as_array(name, value, where)
    if array.dtype == bool or jnp.issubdtype(array.dtype, jnp.integer):
        return array.astype(jnp.result_type(float) if like is None else like)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        raise TypeError(f"{_at(name, where)} is an array of type {array.dtype}; pass an array of floating-point numbers")
    if like is not None and isinstance(value, list | tuple):
        return array.astype(jnp.promote_types(array.dtype, like) if jnp.iscomplexobj(array) else like)
    return array


def as_array(name: str, value: Any, where: str = "") -> jax.Array:
    """`value` as an array of JAX, of whatever type. Errors: those of `as_numbers`, of which this is the first half."""
    if isinstance(value, jax.Array):
        return value
    with _named(name, value, where):
        if value is None or isinstance(value, str | bytes | dict):
            raise TypeError("not numbers")
        # of a tensor of torch that has a derivative, JAX would make an array without one
        return jnp.asarray(np.asarray(value) if _from_torch(value) else value)


def as_indices(name: str, value: Any) -> jax.Array:
    """`value` as an array of integers, which number nodes, entities or rows. Errors: TypeError for anything else, as in `as_numbers`."""
    array = as_array(name, value)
    if array.size == 0:
        return array.astype(jnp.int32)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name} is an array of type {array.dtype}; pass integers, which number the rows from 0")
    return array


def as_features(name: str, value: Any, shape: tuple[int, ...]) -> jax.Array:
    """`value` as an array of finite numbers of this shape. Errors: those of `require_shape`, `as_numbers` and `require_finite`."""
    require_shape(name, value, shape)
    array = as_numbers(name, value)
    require_finite(name, array)
    return array


def on_host(name: str, value: Any) -> np.ndarray:
    """`value` as an array of numpy. Errors: those of `as_numbers`."""
    with _named(name, value, ""):
        return np.asarray(value)


@contextlib.contextmanager
def _named(name: str, value: Any, where: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        remedy = f"{name}.detach().cpu().float().numpy()" if _from_torch(value) else "an array of numbers, or lists of one length"
        raise TypeError(f"{_at(name, where)} is a {kind}, which is no array of numbers; pass {remedy}") from error


def _at(name: str, where: str) -> str:
    return f"{where}: {name}" if where else name


def _from_torch(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch"


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError if `value` is not one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}: found {value!r}; choose one of {', '.join(choices)}")


def require_shape(name: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raises ValueError if `value` is missing or has another shape."""
    found = None if value is None else tuple(np.shape(value))
    if found != shape:
        raise ValueError(f"{name}: found {'nothing' if found is None else f'shape {found}'}; give an array of shape {shape}")


def require_finite(name: str, value: Any) -> None:
    """Raises ValueError if a concrete array contains NaN or infinity, and names the first one."""
    if isinstance(value, Tracer):
        return
    bad = np.argwhere(~np.isfinite(np.asarray(value)))
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise ValueError(f"{name}: found {np.asarray(value)[where]} at index {where}, {len(bad)} such values in all; clean the input first")
