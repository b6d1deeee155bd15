"""Timing of alternatives side by side: interleaved, warm, medians with their spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Timing(NamedTuple):
    """Seconds: the median of the repeats, the quartiles around it, and the first call (trace and compile included)."""

    median: float
    low: float
    high: float
    first: float


def interleaved(fns: Mapping[str, Callable[[], Any]], repeats: int = 9, warm: int = 2) -> dict[str, Timing]:
    """Each function once in turn, `repeats` times over, after `warm` calls of each.

    In turn, so that a change in the machine's load meets all alike. A function has to wait for its own result
    (`jax.block_until_ready`).
    """
    first = {name: _seconds(fn) for name, fn in fns.items()}
    for _ in range(warm - 1):
        for fn in fns.values():
            fn()
    times: dict[str, list[float]] = {name: [] for name in fns}
    for _ in range(repeats):
        for name, fn in fns.items():
            times[name].append(_seconds(fn))
    return {name: _summary(found, first[name]) for name, found in times.items()}


def copy_seconds(nbytes: int) -> float:
    """Seconds to copy `nbytes` with all cores (torch's copy), out of a buffer too large for the caches; the best of seven."""
    import torch

    count = max(nbytes // 4, 1 << 25)
    source, target = torch.ones(count), torch.zeros(count)
    best = min(_seconds(lambda: target.copy_(source)) for _ in range(7))
    return best * nbytes / (4 * count)


def floor_seconds(moved: int) -> float:
    """Seconds that `moved` bytes, read and written together, take at the copy bandwidth of this moment."""
    return copy_seconds(moved // 2)


def _seconds(fn: Callable[[], Any]) -> float:
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def _summary(times: list[float], first: float) -> Timing:
    low, high = np.quantile(times, [0.25, 0.75])
    return Timing(statistics.median(times), float(low), float(high), first)
