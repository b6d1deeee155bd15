"""Tables of points and their gradients, from numpy alone, so that any environment can make them."""

from __future__ import annotations

import numpy as np

C = 0.7
TABLES = ((1_000_000, 32), (82_115, 10), (1_000, 10))
"""Rows and width of the tables on which optimizers are measured."""


def table(n: int, d: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Points of the ball of curvature -`C`, or of the hyperboloid for the kind "lorentz", and gradients, float32 [n, d]."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((n, d), dtype=np.float32)
    points *= np.float32(0.3 / d**0.5)
    if kind == "lorentz":
        points[:, 0] = np.sqrt(1 + (points[:, 1:] ** 2).sum(-1))
    return points, rng.standard_normal((n, d), dtype=np.float32)


def smaller(tables: tuple[tuple[int, int], ...], quick: bool) -> list[tuple[int, int]]:
    """The tables, or with `quick` a twentieth of the large ones."""
    return [(n // 20 if quick and n > 100_000 else n, d) for n, d in tables]
