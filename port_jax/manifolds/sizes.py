"""The check of the sizes that people ask for: of random points, and of the origin."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from port_jax.manifolds.base import Manifold

__all__ = ["require_size"]


def require_size(manifold: Manifold, method: str, size: tuple[int, ...], **others: Any) -> None:
    """Raise ValueError unless points can have the shape `size`, and each of `others` (a mean, a curvature) can be broadcast to it.

    The message names the manifold, the method, the size, and what is needed.
    """
    where = f"{manifold.name}.{method}"
    if any(np.ndim(n) or n < 0 for n in size):
        raise ValueError(f"{where}: the size is {size}; it has to be integers >= 0, one argument for each axis")
    ok, reason = manifold._check_shape(jax.ShapeDtypeStruct(size, float), "the result")
    if not ok:
        raise ValueError(f"{where}: {reason}")
    for name, other in others.items():
        shape = np.shape(other)
        if len(shape) > len(size) or any(n not in (1, m) for n, m in zip(shape[::-1], size[::-1])):
            raise ValueError(f"{where}: the result has shape {size}; {name} has shape {shape}, which cannot be broadcast to it")
