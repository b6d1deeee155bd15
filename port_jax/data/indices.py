"""Edges as the functions of this package take them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["as_edges"]


def as_edges(edges: Any, num_nodes: int) -> np.ndarray:
    """`edges` as int64 [2, E]. Errors: ValueError for another shape, and for an index outside of [0, num_nodes)."""
    array = np.asarray(edges)
    if array.ndim != 2 or len(array) != 2:
        raise ValueError(f"edges has shape {array.shape}: pass [2, E]")
    if array.size and (array.min() < 0 or array.max() >= num_nodes):
        raise ValueError(f"edges contains indices from {array.min()} to {array.max()}: pass indices in [0, {num_nodes})")
    return array.astype(np.int64)
