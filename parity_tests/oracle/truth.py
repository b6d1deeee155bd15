"""Value, vector-Jacobian product and condition numbers of a closed form at one case, by differences far below what float64 resolves."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from parity_tests import draws
from parity_tests.oracle.formulas import Formula

KEPT = Path(__file__).parents[2] / ".cache" / "oracle"

DIGITS = {"lorentz": 220}
"""Far points of the hyperboloid cancel by 70 digits, and so do second differences: what is left resolves float64 by 50 digits and more."""
STEP, NUDGE = mpf(10) ** -45, mpf(10) ** -20
NUDGES = 2


@dataclass(frozen=True)
class Truth:
    """The closed form at a case; gradients by argument, `k` among them, of its inner product with a cotangent."""

    value: np.ndarray
    condition: float
    """Relative change of the value for relative changes of the numbers of the input, summed over them."""
    gradients: dict[str, np.ndarray]
    gradient_conditions: dict[str, float]
    """The same for the gradient, for changes of random signs in all numbers of the input at once: the larger of two draws."""


def truths(formula: Formula, cases: Sequence[dict[str, Any]], space: str, gradients: bool = True, kept: Path | None = KEPT) -> list[Truth]:
    """`truth` of each case. They depend on no code of the product, so they are kept on disk, by a hash of all that they depend on."""
    if kept is None:
        return [truth(formula, case, space, gradients) for case in cases]
    key = hashlib.sha256(repr((formula.kinds, formula.truth.__qualname__, formula.space_part, space, gradients)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source.stem in ("truth", "flat", "lorentz", "stereographic", "unit_sphere"):
            key.update(source.read_bytes())
    for case in cases:
        for name in sorted(case):
            key.update(name.encode() + np.asarray(case[name]).tobytes())
    path = kept / f"{key.hexdigest()[:32]}.pickle"
    if path.exists():
        return pickle.loads(path.read_bytes())
    found = [truth(formula, case, space, gradients) for case in cases]
    with contextlib.suppress(OSError):  # the folder may be read-only
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(found))
    return found


def truth(formula: Formula, case: dict[str, Any], space: str, gradients: bool = True) -> Truth:
    """See `Truth`; the cotangent is the case's `c`, over the entries of the value."""
    arrays = [np.asarray(case[kind]) for kind in formula.kinds]
    with mpmath.workdps(DIGITS.get(space, 150)):
        point = [mpf(float(a)) for array in arrays for a in array.ravel()] + [mpf(float(case["k"]))]

        def value(at: list) -> list:
            rest, args = list(at[:-1]), []
            for kind, array in zip(formula.kinds, arrays):
                part, rest = rest[: array.size], rest[array.size :]
                if array.ndim == 2:
                    part = [part[i : i + array.shape[1]] for i in range(0, array.size, array.shape[1])]
                args.append(part[0] if kind in ("t", "s") else part)
            out = formula.truth(*args, at[-1], **{name: case[name] for name in formula.constants})
            return (out[1:] if formula.space_part else out) if isinstance(out, list) else [out]

        exact = value(point)
        cotangent = [mpf(float(c)) for c in case["c"][: len(exact)]]
        slopes, columns = _slopes(value, point, exact, cotangent)
        size = mpmath.norm(exact)
        change = sum(abs(a) * mpmath.norm(column) for a, column in zip(point, columns))
        condition = float(change / size) if size else 0.0
        result = np.array([float(e) for e in exact])
        if not gradients:
            return Truth(result, condition, {}, {})
        if not size:  # coincident points: the distance has no derivative there, and no relative error
            none = {name: np.zeros(len(part)) for name, part in _split(formula, arrays, slopes).items()}
            return Truth(result, condition, none, dict.fromkeys(none, 0.0))
        parts, conditions = _split(formula, arrays, slopes), {}
        signs = draws.rng(len(point)).choice([-1, 1], (NUDGES, len(point)))
        for row in signs:
            moved = [a * (1 + int(s) * NUDGE) for a, s in zip(point, row)]
            moved_slopes, _ = _slopes(value, moved, value(moved), cotangent)
            for name, part in _split(formula, arrays, moved_slopes).items():
                change = mpmath.norm([a - b for a, b in zip(part, parts[name])]) / NUDGE
                length = mpmath.norm(parts[name])
                conditions[name] = max(conditions.get(name, 0.0), float(change / length) if length else 0.0)
        return Truth(result, condition, {n: np.array([float(a) for a in part]) for n, part in parts.items()}, conditions)


def _slopes(value: Any, point: list, start: list, cotangent: list) -> tuple[list, list]:
    """The gradient of <cotangent, value>, and the columns of the Jacobian."""
    slopes, columns = [], []
    for j, a in enumerate(point):
        h = a * STEP if a else STEP
        column = [(b - c) / h for b, c in zip(value([*point[:j], a + h, *point[j + 1 :]]), start)]
        columns.append(column)
        slopes.append(mpmath.fdot(cotangent, column))
    return slopes, columns


def _split(formula: Formula, arrays: list[np.ndarray], flat: list) -> dict[str, list]:
    parts, at = {}, 0
    for kind, array in zip(formula.kinds, arrays):
        parts[kind] = flat[at : at + array.size]
        at += array.size
    return parts | {"k": flat[at:]}
