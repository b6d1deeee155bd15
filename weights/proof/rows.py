"""A comparison as a row, and its gates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# facts: the float64 differences of a whole model stay within ten times those of geoopt's maps near radius 0.99.
FLOAT64 = {"forward": 1e-10, "grad": 1e-9, "hvp": 1e-8, "step": 1e-10}
"""By level, what float64 may differ by, relative to the largest value."""

MANIFOLD = "manifold of "
"""What the manifold of a parameter is called, before its key, where nothing confirms it."""


class Row(NamedTuple):
    """One comparison. `error` and `gate` are relative to the largest reference value; for steps, to the distance travelled.

    verified: False for what nothing confirms: it is listed, and has not failed.
    """

    level: str
    dtype: str
    what: str
    error: float
    gate: float
    ok: bool
    verified: bool = True


def largest(gap: np.ndarray) -> float:
    """The largest absolute value; 0 of no values."""
    return float(np.max(np.abs(gap), initial=0))


__all__ = ["FLOAT64", "MANIFOLD", "Row", "largest"]
