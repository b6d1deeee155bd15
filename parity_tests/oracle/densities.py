"""Densities of pushed-forward normal numbers in mpmath, by the determinant of the map: no formula of a volume enters."""

from __future__ import annotations

from typing import Any

import mpmath
from mpmath import log, matrix, mpf, pi

from parity_tests.oracle import stereographic
from parity_tests.oracle.stereographic import Vector, dot, lambda_x, times


def wrapped(mean: Vector, v: Vector, k: Any) -> Vector:
    """exp_mean of v, a vector of coordinates in the orthonormal frame at the origin, transported to the mean."""
    u = stereographic.transp([mpf(0)] * len(mean), mean, times(mpf(1) / 2, v), k)
    return stereographic.expmap(mean, u, k)


def log_density(mean: Vector, scale: Vector, v: Vector, k: Any) -> Any:
    """Of `wrapped` at v ~ N(0, diag(scale²)) with respect to the Riemannian volume λ^d dx: log N(v) - log |det dx/dv| - d log λ_x.

    The determinant is that of central differences: with `mpmath.workdps` of 50 and steps of 1e-15, they are exact to about 30 digits.
    """
    h, d = mpf(10) ** -15, len(v)
    columns = []
    for i in range(d):
        ends = [wrapped(mean, [a + sign * h * (i == j) for j, a in enumerate(v)], k) for sign in (1, -1)]
        columns.append([(a - b) / (2 * h) for a, b in zip(*ends)])
    normal = -dot([a / s for a, s in zip(v, scale)], [a / s for a, s in zip(v, scale)]) / 2 - sum(log(s) for s in scale)
    normal -= mpf(d) / 2 * log(2 * pi)
    return normal - log(abs(mpmath.det(matrix(columns)))) - d * log(lambda_x(wrapped(mean, v, k), k))
