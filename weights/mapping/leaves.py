"""What the variables hold of each array: jax's arrays where they are the same numbers."""

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
    """A jax array where jax keeps the type, else a numpy array: nothing is rounded."""
    if jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype:
        if not array.flags.c_contiguous or array.ctypes.data % 64:  # which jax would copy, and keep the original for a while
            aligned = buffer(array.nbytes).view(array.dtype).reshape(array.shape)
            aligned[...] = array
            array = aligned
        return jax.device_put(array).block_until_ready()
    return np.array(array)


def counted(progress: Progress | None, entries: Sequence[Entry]) -> Callable[[np.ndarray], Array | np.ndarray]:
    """`leaf_of`, which tells `progress` of each parameter: its key, how many are done, and how many there are."""
    if progress is None:
        return leaf_of
    keys = iter([e.key for e in entries if e.role == "parameter"])
    total = sum(e.role == "parameter" for e in entries)
    done = 0

    def leaf(array: np.ndarray) -> Array | np.ndarray:
        nonlocal done
        done += 1
        progress(next(keys), done, total)
        return leaf_of(array)

    return leaf
