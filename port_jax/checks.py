"""Checks of arguments. The errors name the argument, what was found and what to do. Of traced values only the shape is checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.core import Tracer

__all__ = ["require_choice", "require_finite", "require_shape"]


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
