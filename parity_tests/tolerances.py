"""The gates: how far two right computations may lie apart, from measured conditioning and never from what happens to pass."""

from __future__ import annotations

from typing import Any

import numpy as np

# Error of one evaluation of geoopt's `dist` in torch against the same formula in JAX, over the largest reference: value, gradient,
# Hessian-vector product, by the radius of the points as a part of the ball's. It grows with the conditioning of 1 - c|x|².
_MEASURED = {
    np.dtype(np.float64): {
        0.5: (6e-16, 2e-15, 2e-15),
        0.9: (2e-14, 6e-14, 1e-13),
        0.99: (1e-12, 5e-12, 1e-11),
        0.996: (5e-12, 4e-11, 7e-11),
    },
    np.dtype(np.float32): {
        0.5: (2e-7, 5e-7, 5e-7),
        0.9: (5e-6, 1e-5, 3e-5),
        0.99: (3e-4, 1e-3, 3e-3),
        0.996: (2e-3, 8e-3, 1e-2),
    },
}

DEVIATIONS = 5
"""Standard errors that a mean over samples may lie off."""
CHANCE = 1e-6
"""The same as a p-value: some hundred comparisons a run, and tens of runs with other seeds, meet none of this size by chance."""


def gate(radius: float, order: int, dtype: Any = np.float64) -> float:
    """The gate at the next larger radius; order 0 is the value, 1 the gradient, 2 the Hessian-vector product.

    Ten times the measured error, and three times that because port_jax evaluates other formulas than geoopt, so that what differs is
    the error of both and not that of one formula twice; ten for second derivatives, where geoopt's formulas cancel twice.
    """
    table = _MEASURED[np.dtype(dtype)]
    return (30, 30, 100)[order] * table[min((r for r in table if r >= radius), default=max(table))][order]


def relative_error(have: Any, want: Any) -> float:
    """max |have - want| over max |want|; infinite where `have` is not finite or has another shape."""
    have, want = np.asarray(have, np.float64), np.asarray(want, np.float64)
    if have.shape != want.shape or not np.isfinite(have).all():
        return float("inf")
    return float(np.abs(have - want).max(initial=0) / max(np.abs(want).max(initial=0), 1e-300))


def ulps(have: Any, want: Any, dtype: Any) -> np.ndarray:
    """|have - want| entry by entry, in units in the last place of `want` at the given dtype."""
    want = np.asarray(want, np.float64)
    return np.abs(np.asarray(have, np.float64) - want) / np.spacing(np.abs(want).astype(dtype)).astype(np.float64)


def no_worse_bound(theirs: Any, truth: Any, dtype: Any = np.float32) -> float:
    """What an absolute error may be in low precision: twice the reference's own and four ulp of the largest entry more."""
    theirs, truth = np.asarray(theirs, np.float64), np.asarray(truth, np.float64)
    return 2 * float(np.abs(theirs - truth).max()) + 4 * float(np.finfo(dtype).eps) * float(np.abs(truth).max())
