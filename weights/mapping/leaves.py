"""The leaves of the variables: arrays of jax, or of numpy where jax would round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from weights.files.tensors import buffer
from weights.mapping.entries import Entry
from weights.types import Progress

if TYPE_CHECKING:
    from jaxtyping import Array


def leaf_of(array: np.ndarray) -> Array | np.ndarray:
    """An array of jax if jax has the type, else an array of numpy: nothing is rounded."""
    if jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype:
        if not array.flags.c_contiguous or array.ctypes.data % 64:  # which jax would copy, and keep the original for a while
            aligned = buffer(array.nbytes).view(array.dtype).reshape(array.shape)
            aligned[...] = array
            array = aligned
        return jax.device_put(array).block_until_ready()
    return np.array(array, order="C")  # in the order in which it will be written, without another copy


def counted(progress: Progress | None, entries: Sequence[Entry]) -> Callable[[np.ndarray], Array | np.ndarray]:
    """`leaf_of`, calling `progress` for each variable."""
    if progress is None:
        return leaf_of
    keys = iter([e.key for e in entries if e.path])
    total = sum(e.path is not None for e in entries)
    done = 0

    def leaf(array: np.ndarray) -> Array | np.ndarray:
        nonlocal done
        done += 1
        progress(next(keys), done, total)
        return leaf_of(array)

    return leaf


__all__ = ["counted", "leaf_of"]
