"""The grid of cases: curvatures 1e-4 to 1e4, radii 1e-12 to the last float before the boundary, distances 1e-12 to 80."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from parity_tests import draws
from parity_tests.oracle import lorentz, stereographic, unit_sphere
from parity_tests.oracle.stereographic import Vector, dot, plus, times

CURVATURES = (1e-4, 1e-2, 1.0, 1e2, 1e4)
NEAR_FLAT = (-1e-9, -1e-12, 0.0, 1e-12, 1e-9)
"""In the space `flat`, where lengths are in units of 1."""
RADII = (1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.9, 0.99, 0.9999, 0.999999, 1.0)
DISTANCES = (1e-12, 1e-8, 1e-4, 1e-2, 0.3, 1.0, 3.0, 10.0, 30.0, 80.0)
"""Both in units of the radius of curvature. On the hyperboloid radii from 0.1 are times 40, on the sphere radii are doubled."""
FAR_DIGITS = 200
D, POINTS = 3, 4


def draw(space: str, dtype: Any, thin: int = 1, rng: Callable[[int], np.random.Generator] = draws.rng) -> list[dict[str, Any]]:
    """Cases with all arguments rounded to dtype; every `thin`-th of the grid.

    A pair (x, y) has y at the distance from x in a random direction u, rounded: what counts as truth is the truth of the rounded
    arguments. Points of the ball that round to the boundary or beyond are pulled to the last float before it. Cases that overflow
    are left out.
    """
    found = []
    for i, (k, r, d) in enumerate(product(NEAR_FLAT if space == "flat" else CURVATURES, RADII, DISTANCES)):
        if i % thin:
            continue
        k = float(dtype(-k if space == "ball" else k))
        with mpmath.workdps(FAR_DIGITS):
            numbers = rng(i)
            case = _DRAW[space](numbers, mpf(k), r, d, dtype)
            case = {name: _rounded(a, dtype) for name, a in case.items()}
        case |= {"m": numbers.standard_normal((D, D)) / 2, "w": numbers.uniform(0.2, 1, POINTS), "c": numbers.standard_normal(D + 1)}
        case = {name: a.astype(dtype) for name, a in case.items()}
        if all(np.abs(a).max() <= 1e-3 * np.finfo(dtype).max for a in case.values()):
            found.append(case | {"k": dtype(k), "r": r, "d": d, "float32": dtype == np.float32})
    return found


def _unit(rng: np.random.Generator, size: int = D) -> Vector:
    v = [mpf(float(a)) for a in rng.standard_normal(size)]
    return times(1 / mpmath.sqrt(dot(v, v)), v)


def _stereographic(rng: np.random.Generator, k: Any, r: float, d: float, dtype: Any) -> dict[str, Any]:
    ex, eu, ev = (_unit(rng) for _ in range(3))
    radius = 1 / mpmath.sqrt(abs(k)) if abs(k) > 1e-8 else mpf(1)
    reach = mpf(d) if k < 0 else min(mpf(d), mpf(3))  # on the sphere within pi
    if radius == 1 and k != -1:
        reach = min(reach, mpf(10))
    inside = lambda p: _inside(p, k, dtype)  # noqa: E731
    x = inside(times(radius * (mpf(r) if k <= 0 else 2 * mpf(r)), ex))
    u = times(reach * radius / stereographic.lambda_x(x, k), eu)
    near = [inside(stereographic.expmap(x, times(reach * radius / stereographic.lambda_x(x, k), _unit(rng)), k)) for _ in "ab"]
    y = inside(stereographic.expmap(x, u, k))
    case = {"x": x, "y": y, "u": u, "v": ev, "u0": times(reach * radius / 2, eu), "xs": [x, y, *near]}
    case |= {"t": mpf(rng.uniform(0.2, 0.8)), "s": rng.uniform(0.2, 0.8) * reach * radius}
    if k:
        case["p"] = stereographic.inv_sproj(x, k)
    return case


def _hyperboloid(rng: np.random.Generator, k: Any, r: float, d: float, dtype: Any) -> dict[str, Any]:
    radius = mpmath.sqrt(k)
    far = mpf(r) if r < 0.1 else mpf(40) * mpf(r)
    x = times(radius * mpmath.sinh(far), _unit(rng))
    u, u2 = (_tangent(x, _unit(rng), d * radius, k) for _ in "ab")
    case = {"x": x, "y": lorentz.expmap(x, u, k)[1:], "u": u, "u2": u2, "e": times(1 / (d * radius), u)}
    case |= {"u0": times(d * radius, _unit(rng)), "a": _unit(rng, D + 1), "s": rng.uniform(0.2, 0.8) * d * radius}
    return case | {"b": _inside(times(mpf(r), _unit(rng)), mpf(-1), dtype)}


def _tangent(x: Vector, direction: Vector, length: Any, k: Any) -> Vector:
    u = lorentz.tangent(lorentz.point(x, k), direction)
    return times(length / mpmath.sqrt(lorentz.inner(u, u)), u[1:])


def _unit_sphere(rng: np.random.Generator, k: Any, r: float, d: float, dtype: Any) -> dict[str, Any]:
    x = _unit(rng)
    length = min(mpf(d), mpf(3)) if r < 0.9 else mpmath.pi - min(mpf(d), mpf(3))  # near x, and near its antipode
    u, u2 = (unit_sphere.proju(x, _unit(rng), k) for _ in "ab")
    u = times(length / mpmath.sqrt(dot(u, u)), u)
    return {"x": x, "y": unit_sphere.expmap(x, u, k), "u": u, "u2": u2, "v": _unit(rng)}


def _euclidean(rng: np.random.Generator, k: Any, r: float, d: float, dtype: Any) -> dict[str, Any]:
    x, u = times(mpf(r), _unit(rng)), times(mpf(d), _unit(rng))
    return {"x": x, "y": plus(x, u), "u": u, "v": _unit(rng)}


_DRAW: dict[str, Callable[..., dict[str, Any]]] = {
    "ball": _stereographic,
    "flat": _stereographic,
    "sphere": _stereographic,
    "lorentz": _hyperboloid,
    "unit_sphere": _unit_sphere,
    "euclidean": _euclidean,
}


def _inside(x: Vector, k: Any, dtype: Any) -> Vector:
    """x rounded to dtype, and for k < 0 shortened by quarters of an ulp as long as it is on or beyond the boundary."""
    eps, shorter = mpf(float(np.finfo(dtype).eps)) / 4, mpf(1)
    square = -k * dot(x, x)
    if square > 1:
        x = times(1 / mpmath.sqrt(square), x)
    while True:
        rounded = [mpf(float(a)) for a in _rounded(times(shorter, x), dtype)]
        if k >= 0 or -k * dot(rounded, rounded) < 1:
            return rounded
        shorter -= eps


def _rounded(a: Any, dtype: Any) -> np.ndarray:
    with np.errstate(over="ignore"):
        rows = a if isinstance(a, list) else [a]
        return np.array([[float(c) for c in b] if isinstance(b, list) else float(b) for b in rows]).astype(dtype)
