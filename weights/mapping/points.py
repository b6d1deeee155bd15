"""Checks that the points of a converted model lie on their manifolds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Array

from weights.errors import Unmatched
from weights.mapping.entries import Entry
from weights.types import Manifolds, Params

if TYPE_CHECKING:
    from port_jax.manifolds.base import Manifold

ROWS = 1 << 16
# Beyond rounding, and beyond what a trained curvature leaves: geoopt moves it without moving the points that lie on it.
TOLERANCE = 1e-2


def check(manifolds: Manifolds, params: Params, entries: Sequence[Entry]) -> None:
    """Raises Unmatched for the first point whose projection (`projx`) is farther than 1 % of 1 + |x| from it.

    `manifolds` is the tree beside the parameters, or a callable from them to it; None where nothing is known.
    """
    from port_jax.optim.trees import match_manifolds

    if manifolds is None or not params:
        return
    keys = {f"{e.path}": e.key for e in entries if e.role == "parameter"}
    leaves = jax.tree.leaves_with_path(params)
    for (path, leaf), manifold in zip(leaves, match_manifolds(manifolds, params), strict=True):
        if not manifold.flat and np.ndim(leaf) >= manifold.ndim and np.size(leaf):
            name = "/".join(["params", *(str(getattr(step, "key", step)) for step in path)])
            _check_leaf(manifold, np.asarray(leaf), keys.get(name, name))


@jax.jit
def _projected(manifold: Manifold, points: Array) -> Array:  # by one program: without jit each operation is compiled by itself
    return manifold.projx(points)


def _check_leaf(manifold: Manifold, points: np.ndarray, key: str) -> None:
    flat = points.reshape(-1, *points.shape[points.ndim - manifold.ndim :])
    axes = tuple(range(1, flat.ndim))
    for start in range(0, len(flat), ROWS):
        block = flat[start : start + ROWS]
        gap = np.max(np.abs(np.asarray(_projected(manifold, block)) - block), axis=axes)
        off = np.flatnonzero(~(gap <= TOLERANCE * (1 + np.max(np.abs(block), axis=axes))))
        if len(off):
            where = np.unravel_index(start + off[0], points.shape[: points.ndim - manifold.ndim])
            raise Unmatched(
                f"the key {key!r} contains a point that is not on its {type(manifold).__name__}, at {tuple(int(i) for i in where)}: "
                f"it is {gap[off[0]]:.3g} away from its projection",
                "Check the curvature, which may differ from the one in training, or project the points in torch (manifold.projx)",
            )


__all__ = ["check"]
