"""The grid of cases: curvatures 1e-4 to 1e4, radii 1e-12 to the last float before the boundary, distances 1e-12 to 80."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from parity_tests.oracle import lorentz, stereographic

CURVATURES = (1e-4, 1e-2, 1.0, 1e2, 1e4)
RADII = (1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.9, 0.99, 0.9999, 0.999999, 1.0)
DISTANCES = (1e-12, 1e-8, 1e-4, 1e-2, 0.3, 1.0, 3.0, 10.0, 30.0, 80.0)
"""In units of the radius of curvature."""
DIGITS, FAR_DIGITS = 60, 200
STEP = mpf(10) ** -25
D = 3


@dataclass(frozen=True)
class Formula:
    """An operation by the names of its arguments (as `draw` gives them) and its closed form, which takes k last."""

    kinds: tuple[str, ...]
    truth: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)


def _ball(name: str, *kinds: str, **options: Any) -> Formula:
    return Formula(kinds, getattr(stereographic, name), options)


BALL = {
    "lambda_x": _ball("lambda_x", "x", keepdim=True),
    "inner": _ball("inner", "x", "u", "v", keepdim=True),
    "norm": _ball("norm", "x", "u", keepdim=True),
    "egrad2rgrad": _ball("egrad2rgrad", "x", "v"),
    "dist": _ball("dist", "x", "y", keepdim=True),
    "dist0": _ball("dist0", "x", keepdim=True),
    "expmap": _ball("expmap", "x", "u", project=False),
    "expmap0": _ball("expmap0", "u0", project=False),
    "logmap": _ball("logmap", "x", "y"),
    "logmap0": _ball("logmap0", "x"),
    "geodesic": _ball("geodesic", "t", "x", "y"),
    "geodesic_unit": _ball("geodesic_unit", "s", "x", "v", project=False),
    "transp": _ball("transp", "x", "y", "v"),
    "transp0": _ball("transp0", "x", "v"),
    "transp0back": _ball("transp0back", "x", "v"),
    "mobius_add": _ball("mobius_add", "x", "y", project=False),
    "mobius_sub": _ball("mobius_sub", "x", "y", project=False),
    "mobius_coadd": _ball("mobius_coadd", "x", "y", project=False),
    "mobius_cosub": _ball("mobius_cosub", "x", "y", project=False),
    "mobius_scalar_mul": _ball("mobius_scalar_mul", "t", "x", project=False),
    "mobius_pointwise_mul": _ball("mobius_pointwise_mul", "v", "x", project=False),
    "gyration": _ball("gyration", "x", "y", "v"),
    "antipode": _ball("antipode", "x"),
    "dist2plane": _ball("dist2plane", "x", "y", "v", signed=True, keepdim=True),
    "sproj": _ball("sproj", "x"),
    "inv_sproj": _ball("inv_sproj", "x"),
}


def _hyperboloid(name: str, *kinds: str, **options: Any) -> Formula:
    return Formula(kinds, getattr(lorentz, name), options)


LORENTZ = {
    "dist": _hyperboloid("dist", "x", "y", keepdim=True),
    "dist0": _hyperboloid("dist0", "x", keepdim=True),
    "norm": _hyperboloid("norm", "x", "u", keepdim=True),
    "expmap": _hyperboloid("expmap", "x", "u"),
    "expmap0": _hyperboloid("expmap0", "u0"),
    "logmap": _hyperboloid("logmap", "x", "y"),
    "logmap0": _hyperboloid("logmap0", "x"),
    "logmap0back": _hyperboloid("logmap0back", "x"),
    "transp": _hyperboloid("transp", "x", "y", "u"),
    "transp0": _hyperboloid("transp0", "x", "u0"),
    "transp0back": _hyperboloid("transp0back", "x", "u"),
    "lorentz_to_poincare": _hyperboloid("lorentz_to_poincare", "x"),
    "poincare_to_lorentz": _hyperboloid("poincare_to_lorentz", "b"),
}


def _unit(rng: np.random.Generator) -> list:
    v = [mpf(float(a)) for a in rng.standard_normal(D)]
    return stereographic.times(1 / mpmath.sqrt(stereographic.dot(v, v)), v)


def draw(space: str, dtype: Any, sign: int = -1, thin: int = 1) -> list[dict[str, Any]]:
    """Cases with all arguments rounded to dtype; every `thin`-th of the grid.

    A pair (x, y) has y at the distance from x in a random direction u, rounded: what counts as truth is the truth of the rounded arguments.
    Cases whose points round to the boundary, or overflow, are left out.
    """
    rng = np.random.default_rng(11)
    found = []
    eps = mpf(float(np.finfo(dtype).eps))
    grid = [(k, r, d) for k in CURVATURES for r in RADII for d in DISTANCES]
    for k, r, d in grid[::thin]:
        with mpmath.workdps(FAR_DIGITS):
            ex, eu, ev = (_unit(rng) for _ in range(3))
            t, s = (float(dtype(rng.uniform(0.2, 0.8))) for _ in range(2))
            k = float(dtype(k))
            radius = mpf(k) ** (mpf(1) / 2) if space == "lorentz" else 1 / mpmath.sqrt(mpf(k))
            if space == "lorentz":
                far = mpf(r) if r < 0.1 else mpf(40) * mpf(r)
                x = stereographic.times(radius * mpmath.sinh(far), ex)
                y, u = _lorentz_pair(x, eu, d * radius, mpf(k))
                case = {"x": x, "y": y, "u": u, "u0": stereographic.times(d * radius, eu)}
                case["b"] = stereographic.times(min(mpf(r), 1 - 4 * eps), ex)
            else:
                k = sign * k
                part = min(mpf(r), 1 - 4 * eps) if sign < 0 else mpf(r) * 2
                x = stereographic.times(radius * part, ex)
                reach = mpf(d) if sign < 0 else min(mpf(d), mpf(3))  # on the sphere within pi
                u = stereographic.times(reach * radius / stereographic.lambda_x(x, mpf(k)), eu)
                case = {
                    "x": x,
                    "y": stereographic.expmap(x, u, mpf(k)),
                    "u": u,
                    "v": ev,
                    "t": t,
                    "s": s * reach * float(radius),
                }
                case["u0"] = stereographic.times(reach * radius / 2, eu)
            case = {name: _rounded(a, dtype) for name, a in case.items()} | {"k": dtype(k), "r": r, "d": d}
            if _inside(space, case):
                found.append(case)
    return found


def _lorentz_pair(x: list, direction: list, distance: Any, k: Any) -> tuple[list, list]:
    """y at the distance from x, and the tangent that leads there, as space parts."""
    u = lorentz.tangent(lorentz.point(x, k), direction)
    u = stereographic.times(distance / mpmath.sqrt(lorentz.inner(u, u)), u[1:])
    return lorentz.expmap(x, u, k)[1:], u


def _rounded(a: Any, dtype: Any) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.array([float(b) for b in a] if isinstance(a, list) else [float(a)]).astype(dtype)


def _inside(space: str, case: dict[str, Any]) -> bool:
    arrays = [a for a in case.values() if isinstance(a, np.ndarray)]
    # squares of the coordinates at most near the largest float, so that the truth itself is representable
    if (
        not all(np.isfinite(a).all() for a in arrays)
        or max(np.abs(a).max() for a in arrays) > 1e-3 * np.finfo(case["k"].dtype).max
    ):
        return False
    if space == "lorentz" or case["k"] > 0:
        return True
    with mpmath.workdps(DIGITS):
        return all(-mpf(float(case["k"])) * sum(mpf(float(a)) ** 2 for a in case[n]) < 1 for n in "xy")


def truth(formula: Formula, case: dict[str, Any], space: str) -> tuple[np.ndarray, float]:
    """The closed form at the case's arguments, and its relative condition number for relative errors in each number of the input."""
    k = mpf(float(case["k"]))
    arguments = [[mpf(float(a)) for a in case[kind]] for kind in formula.kinds]
    scalars = [kind in ("t", "s") for kind in formula.kinds]

    def value(args: list, at: Any) -> list:
        out = formula.truth(*(a[0] if scalar else a for a, scalar in zip(args, scalars)), at)
        return out if isinstance(out, list) else [out]

    with mpmath.workdps(FAR_DIGITS if space == "lorentz" else DIGITS + 40):
        exact = value(arguments, k)
        size = mpmath.sqrt(stereographic.dot(exact, exact))
        if not size:
            return np.array([0.0] * len(exact)), 0.0
        change = mpf(0)
        for i, argument in enumerate(arguments):
            for j in range(len(argument)):
                moved = [list(a) for a in arguments]
                moved[i][j] *= 1 + STEP
                change += _distance(value(moved, k), exact)
        change += _distance(value(arguments, k * (1 + STEP)), exact)
        return np.array([float(e) for e in exact]), float(change / STEP / size)


def _distance(a: list, b: list) -> Any:
    return mpmath.sqrt(sum(abs(p - q) ** 2 for p, q in zip(a, b)))
