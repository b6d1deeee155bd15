"""A comparison as a row, and its gates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# facts: the float64 differences of a whole model stay within ten times those of geoopt's maps near radius 0.99.
FLOAT64 = {"forward": 1e-10, "grad": 1e-9, "hvp": 1e-8, "step": 1e-10}
"""By level, what float64 may differ by, relative to the largest value."""

MANIFOLD = "manifold of "
"""What the manifold of a parameter is called, before its key, where nothing confirms it."""


BINS = 22
"""The classes of `Ulp.counts`."""


class Ulp(NamedTuple):
    """How far the entries of two arrays are apart, in units in the last place of the reference's entries.

    median, p99, largest: infinite where an entry is not finite. counts: how many entries differ by 0, by up to 1, 2, 4, ... 2^19, and by
    more.
    """

    median: float
    p99: float
    largest: float
    counts: tuple[int, ...]

    @classmethod
    def of(cls, theirs: np.ndarray, ours: np.ndarray) -> Ulp | None:
        """None of arrays of other shapes, and of no entries."""
        if theirs.shape != ours.shape or not theirs.size:
            return None
        gaps = ulps(theirs, ours).ravel()
        at = np.where(gaps > 0, np.clip(np.ceil(np.log2(np.maximum(gaps, 1))) + 1, 1, BINS - 1), 0)
        low, high, top = np.percentile(gaps, (50, 99, 100), method="higher")
        return cls(float(low), float(high), float(top), tuple(np.bincount(at.astype(int), minlength=BINS).tolist()))


def ulps(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """|ours - theirs| entry by entry, in units in the last place of theirs; infinite where either is not finite and they differ."""
    with np.errstate(all="ignore"):
        gap = np.abs(theirs.astype(np.float64) - ours) / np.spacing(np.abs(theirs)).astype(np.float64)
    return np.where(np.isfinite(gap), gap, np.where((theirs == ours) | (np.isnan(theirs) & np.isnan(ours)), 0, np.inf))


class Row(NamedTuple):
    """One comparison. `error` and `gate` are relative to the largest reference value; for steps, to the distance travelled.

    verified: False for what nothing confirms: it is listed, and has not failed. ulp: the entries. trail: the numbers of
    some steps, with the error after them, and ten times how far torch itself is led by a start moved by one unit in the last place, both as
    parts of the distance travelled in the end.
    """

    level: str
    dtype: str
    what: str
    error: float
    gate: float
    ok: bool
    verified: bool = True
    ulp: Ulp | None = None
    trail: tuple[tuple[int, float, float], ...] = ()

    @property
    def status(self) -> str:
        """ok, failed, or not verified."""
        return ("ok" if self.ok else "failed") if self.verified else "not verified"

    def told(self) -> dict[str, object]:
        """The comparison alone, without the entries and the way."""
        return {name: value for name, value in self._asdict().items() if name not in ("ulp", "trail")}


def largest(gap: np.ndarray) -> float:
    """The largest absolute value; 0 of no values."""
    return float(np.max(np.abs(gap), initial=0))


__all__ = ["BINS", "FLOAT64", "MANIFOLD", "Row", "Ulp", "largest", "ulps"]
