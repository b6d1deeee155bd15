"""First and second derivatives of closed forms in mpmath, by differences at steps far below what float64 resolves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

DIGITS = 160
STEP = mpf(10) ** -40
"""Forward differences are off by about STEP; second ones lose the digits of STEP² from DIGITS."""


def derivatives(
    f: Callable[..., list],
    k: float,
    args: Sequence[np.ndarray],
    cotangent: np.ndarray,
    dk: Any = 0.0,
    noise: Sequence[np.ndarray] | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """([value], gradients, second derivatives along (dk, *noise)) of f(k, *rows), the curvature's first, summed over points.

    args, cotangent and noise have one row a point, [n, ...] ([n] for numbers); without noise there are no second derivatives.
    """
    moves = list(zip(*noise)) if noise else [None] * len(cotangent)
    rows = [_point(f, k, at, c, dk, move) for at, c, move in zip(zip(*args), cotangent, moves)]
    gradients, second = ([np.array(a) for a in zip(*(row[i] for row in rows))] for i in (1, 2))
    for total in (gradients, second):
        if total:
            total[0] = total[0].sum()
    return [np.array([row[0] for row in rows]).reshape(cotangent.shape)], gradients, second


def _point(f: Callable[..., list], k: float, args: Any, cotangent: np.ndarray, dk: float, noise: Any) -> tuple:
    with mpmath.workdps(DIGITS):
        flat = [mpf(float(k)), *(mpf(float(a)) for array in args for a in array)]
        weights = [mpf(float(c)) for c in np.atleast_1d(cotangent)]

        def value(at: list) -> list:
            rest, rows = list(at[1:]), []
            for array in args:
                rows.append(rest[: len(array)])
                rest = rest[len(array) :]
            return f(at[0], *rows)

        def total(at: list) -> Any:
            return mpmath.fdot(weights, value(at))

        def gradient(at: list) -> list:
            start = total(at)
            return [(total([*at[:i], at[i] + STEP, *at[i + 1 :]]) - start) / STEP for i in range(len(at))]

        first, second = gradient(flat), None
        if noise is not None:
            along = [mpf(float(dk)), *(mpf(float(a)) for array in noise for a in array)]
            moved = gradient([a + STEP * b for a, b in zip(flat, along)])
            second = [(b - a) / STEP for a, b in zip(first, moved)]
        return [float(v) for v in value(flat)], _split(first, args), _split(second, args) if second else []


def _split(flat: list, args: Any) -> list[np.ndarray]:
    flat = [float(a) for a in flat]
    ends = np.cumsum([1, *(len(a) for a in args)])
    return [np.array(flat[0])] + [np.array(flat[a:b]) for a, b in pairwise(ends)]
