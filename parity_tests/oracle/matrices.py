"""Functions of matrices in mpmath, and derivatives along curves from their values alone.

A spectrum with coincident eigenvalues is nothing special here: what is differentiated are values of the functions, by central
differences whose step leaves 20 digits and more of the 60 that are computed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mpmath import diag, eigh, eye, matrix, mp, mpc, mpf, svd

Function = Callable[..., Any]
Matrix = Any
"""mpmath's, which has no type."""

DIGITS = 60
STEP = 10.0**-12
_STENCILS = {1: ((1, 1), (-1, -1)), 2: ((1, 1), (0, -2), (-1, 1)), 3: ((2, 1), (1, -2), (-1, 2), (-2, -1))}


def exactly(a: np.ndarray) -> Matrix:
    """The matrix, with the numbers that its floats are."""
    return matrix([[mpc(complex(v)) if np.iscomplexobj(a) else mpf(float(v)) for v in row] for row in np.asarray(a)])


def funcm(a: Matrix, f: Function) -> Matrix:
    """V f(Λ) Vᴴ of a symmetric or Hermitian matrix."""
    e, v = eigh(0.5 * (a + a.H))
    return v * diag([f(t) for t in e]) * v.H


def inverse_root(a: Matrix) -> Matrix:
    return funcm(a, lambda t: 1 / mp.sqrt(t))


def root(a: Matrix) -> Matrix:
    return funcm(a, mp.sqrt)


def singular_values(a: Matrix) -> list:
    """In descending order."""
    return list(svd(a, compute_uv=False))


def polar(a: Matrix) -> Matrix:
    """a (aᵀa)^-½."""
    return a * inverse_root(a.H * a)


def trace(a: Matrix) -> Any:
    return sum(a[i, i] for i in range(a.rows))


def identity(n: int) -> Matrix:
    return eye(n)


def mixed(f: Function, a: np.ndarray, directions: Sequence[np.ndarray]) -> np.ndarray:
    """The derivative of the matrix-valued f at a along each of the directions once."""
    with mp.workdps(DIGITS):
        h, at = mpf(STEP), exactly(a)
        steps = [h * exactly(u) for u in directions]
        total = None
        for signs in itertools.product((1, -1), repeat=len(steps)):
            term = int(np.prod(signs)) * f(at + sum((s * u for s, u in zip(signs, steps)), 0 * at))
            total = term if total is None else total + term
        return _floats(total / (2 * h) ** len(steps))


def along(f: Function, order: int) -> np.ndarray:
    """The derivative at 0, of order 1 to 3, of a function of one number with values in numbers or matrices."""
    with mp.workdps(DIGITS):
        h = mpf(STEP)
        total = None
        for place, weight in _STENCILS[order]:
            term = weight * f(place * h)
            total = term if total is None else total + term
        return _floats(total / (2 * h**order if order != 2 else h**2))


def _floats(value: Any) -> np.ndarray:
    if not isinstance(value, matrix):
        return np.array(float(mp.re(value)))
    complex_ = np.array([[complex(value[i, j]) for j in range(value.cols)] for i in range(value.rows)])
    return complex_ if any(isinstance(v, mpc) for v in value) else complex_.real
