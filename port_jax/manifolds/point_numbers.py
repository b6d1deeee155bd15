"""Numbers that belong to points, curvatures above all: which values and which shapes they may have, and how they are stacked."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from port_jax.manifolds.base import concrete

__all__ = ["beside", "one_or_nan", "positive_or_nan", "require_one", "require_point_numbers"]


def positive_or_nan(value: Any, *, zero: bool = False) -> Any:
    """value itself, and NaN with NaN derivatives where it is not positive (nor 0, if `zero`).

    A constructor refuses such a number where it sees it. A traced one, or one that was put into the pytree, reaches the formulas, and
    those of a ball would compute a sphere.
    """
    known = None if isinstance(value, jax.Array) else concrete(value)
    if known is not None:
        fits = known >= 0 if zero else known > 0
        return value if fits.all() else np.where(fits, known, np.nan)
    value = jnp.asarray(value, jnp.result_type(value, 1.0))
    return value * one_or_nan(value >= 0 if zero else value > 0, value.dtype)


def one_or_nan(fits: Any, dtype: Any) -> Any:
    """1 where a condition holds, and NaN elsewhere. It is computed and not written down, as jax_debug_nans stops at every NaN that is."""
    return jnp.sqrt(jnp.where(fits, 1, -1).astype(dtype))


def require_point_numbers(owner: str, name: str, value: Any, *arrays: Any) -> None:
    """Raise ValueError unless `value` is one number, or numbers `[..., 1]` that broadcast against each of the arrays of points."""
    shape = np.shape(value)
    if not shape:
        return
    if shape[-1] != 1:
        raise ValueError(
            f"{owner}: {name} has shape {shape}; it has to be one number, or to broadcast against points with length 1 on its last axis: "
            f"{name}[..., None] has shape {(*shape, 1)}, for one number a point"
        )
    for array in arrays:
        batch = np.shape(array)[:-1]
        if any(n != m and 1 not in (n, m) for n, m in zip(shape[-2::-1], batch[::-1])):
            raise ValueError(
                f"{owner}: {name} has shape {shape} and does not broadcast against points of shape {np.shape(array)}; it has to be one "
                f"number, or one a point, of shape {(*batch, 1)}"
            )


def require_one(owner: str, method: str, name: str, value: Any) -> Any:
    """`value` as one number; ValueError if it is several."""
    if np.size(value) != 1:
        raise ValueError(f"{owner}.{method}: {name} has shape {np.shape(value)}; it has to be one number here")
    return jnp.reshape(jnp.asarray(value), ()) if np.ndim(value) else value


def beside(owner: str, name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """`value`, with an axis of length 1 for each axis of a parameter of this shape that it lacks at the end.

    Numbers of fewer axes than the parameter belong to its first axes: those that flax's `nn.vmap` or `jax.vmap` of `init` put before
    the axes of one model. Numbers `[..., 1]` that fit the last axes only stay as they are. ValueError for any other shape, and for one
    that fits the first and the last axes in different ways.
    """
    have = np.shape(value)
    if not have or np.size(value) == 1:
        return value
    first = len(have) <= len(shape) and all(n in (1, m) for n, m in zip(have, shape))
    first = first and (len(have) < len(shape) or have[-1] == 1)
    last = have[-1] == 1 and len(have) <= len(shape) and all(n in (1, m) for n, m in zip(have[-2::-1], shape[-2::-1]))
    padded = (*have, *(1 for _ in shape[len(have) :]))
    if first and last and padded != (*(1 for _ in shape[len(have) :]), *have):
        raise ValueError(
            f"{owner}: {name} has shape {have} beside a parameter of shape {shape}, whose first and last axes both fit; give it as many "
            f"axes as the parameter: {padded} or {(*(1 for _ in shape[len(have) :]), *have)}"
        )
    if first:
        return jnp.reshape(value, padded)
    if not last:
        raise ValueError(
            f"{owner}: {name} has shape {have} beside a parameter of shape {shape}; it has to be one number, the first axes of the "
            f"parameter for models that are stacked, or {(*shape[:-1], 1)} for one number a point"
        )
    return value
