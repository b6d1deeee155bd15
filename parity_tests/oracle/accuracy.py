"""Error of geoopt and of port_jax against the closed forms, over the grid, for every operation of the constant-curvature manifolds.

    python -m parity_tests.oracle.accuracy [--thin 1] [--space ball] [--operation dist] [--out accuracy]

writes table.csv, one plot a space, and the summary in docs/accuracy.md (not for a thinned grid); a part of the work replaces its lines of
the table. Errors are relative (2-norm over 2-norm) in units of the dtype's eps; derivatives by k relative to the terms that they are
sums of, where those are larger. `conditioned` is the largest error over one plus the condition number of its case.
Mpmath takes gmpy2 where it is installed, and is twice as fast then.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from parity_tests.oracle import grid, report, sides
from parity_tests.oracle.formulas import SPACES
from parity_tests.oracle.rows import Errors, Row
from parity_tests.oracle.truth import Truth, truths

DTYPES = (np.float32, np.float64)


def measure(space: str, name: str, cases: Sequence[dict[str, Any]], dtype: Any, gradients: bool = True) -> Iterator[Errors]:
    """The rows of an operation: its value, then the gradients."""
    formula = SPACES[space][name]
    exact = truths(formula, cases, space, gradients)
    k = np.array([case["k"] for case in cases])
    k = k.reshape(-1, *[1] * (2 if "xs" in formula.kinds else 1))
    arrays = [np.stack([case[kind] for case in cases]) for kind in formula.kinds]
    cotangents = np.stack([case["c"] for case in cases])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        answers = [side(space, name, formula, k, arrays, cotangents) for side in (sides.geoopt_, sides.port_jax)]
        assert answers[1][0].dtype == dtype, (name, answers[1][0].dtype)
        values = [a[0] for a in answers]
        yield _compare((space, name, "value"), dtype, cases, *values, [t.value for t in exact], [t.condition for t in exact])
        if not gradients:
            return
        for argument in (*formula.kinds, "k"):
            if argument == "k" and space in ("unit_sphere", "euclidean"):
                continue
            parts = [a[1][argument].reshape(len(cases), -1) for a in answers]
            wanted, conditions = [t.gradients[argument] for t in exact], [t.gradient_conditions[argument] for t in exact]
            least = [_terms(t, case, formula.kinds) / abs(case["k"] or 1) for t, case in zip(exact, cases)] if argument == "k" else 0.0
            if found := _compare((space, name, f"d/d{argument}"), dtype, cases, *parts, wanted, conditions, least):
                yield found


def _terms(t: Truth, case: dict[str, Any], kinds: Sequence[str]) -> float:
    """The size of the terms that k df/dk is the sum of: by homogeneity, 2 k df/dk = x df/dx - f and the like."""
    return max(float(np.linalg.norm(t.gradients[kind] * case[kind].astype(np.float64).ravel())) for kind in kinds)


def _compare(
    key: tuple[str, str, str],
    dtype: Any,
    cases: Any,
    theirs: np.ndarray,
    mine: np.ndarray,
    exact: Any,
    condition: Any,
    least: Any = 0.0,
) -> Errors | None:
    """Errors are relative to the length of the truth, or to `least` where that is more."""
    # A truth beyond the dtype's range has no right answer in it.
    size = np.array([np.abs(e).max() for e in exact])
    kept = np.flatnonzero((size < np.finfo(dtype).max / 8) & (size > 8 * np.finfo(dtype).tiny))
    if not len(kept):
        return None
    wanted, condition = np.array(exact)[kept], np.array(condition)[kept]
    length = _length(wanted)
    scale = np.maximum(length, np.broadcast_to(least, size.shape)[kept])
    condition = condition * (length / scale)
    theirs, mine = (_error(a[kept], wanted, scale) / np.finfo(dtype).eps for a in (theirs, mine))
    conditioned = float(np.max(mine / (1 + condition)))
    row = Row(*key, np.dtype(dtype).name, len(kept), *_summary(theirs), *_summary(mine), conditioned)
    return Errors(row, theirs, mine, condition, [cases[i] for i in kept])


def _length(a: np.ndarray) -> np.ndarray:
    largest = np.abs(a).max(-1)
    return largest * np.linalg.norm(a / largest[:, None], axis=-1)


def _error(have: np.ndarray, exact: np.ndarray, scale: np.ndarray) -> np.ndarray:
    error = np.linalg.norm(have.astype(np.float64) / scale[:, None] - exact / scale[:, None], axis=-1)
    return np.where(np.isfinite(error), error, np.inf)


def _summary(errors: np.ndarray) -> tuple[float, float, float, int]:
    ordered = np.sort(errors)
    at = lambda q: float(ordered[int(np.ceil(q * (len(ordered) - 1)))])  # noqa: E731
    return at(0.5), at(0.99), at(1.0), int(np.isinf(errors).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thin", type=int, default=1, help="use every n-th case of the grid")
    parser.add_argument("--space", choices=SPACES, action="append", help="this space only; can be repeated")
    parser.add_argument("--operation", action="append", help="this operation only; can be repeated")
    parser.add_argument("--no-gradients", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("accuracy"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[2] / ".cache" / "accuracy"))
    whole = options.thin == 1 and not (options.space or options.operation or options.no_gradients)
    work = [
        (space, name, dtype)
        for space in options.space or SPACES
        for name in SPACES[space]
        if not options.operation or name in options.operation
        for dtype in DTYPES
    ]
    cases = {(s, d): grid.draw(s, d, options.thin) for s, d in dict.fromkeys((s, d) for s, _, d in work)}
    found: list[Errors] = []
    rows = {} if whole or not (options.out / "table.csv").exists() else {r.key: r for r in report.read(options.out / "table.csv")}
    for space, name, dtype in (bar := tqdm(work, mininterval=5, disable=None)):
        bar.set_description(f"{space} {name}")
        found += measure(space, name, cases[space, dtype], dtype, not options.no_gradients)
        rows |= {e.row.key: e.row for e in found}
        report.write(options.out, list(rows.values()))
    if not options.operation:
        for space in dict.fromkeys(s for s, _, _ in work):
            report.plot(options.out / f"{space}.png", [e for e in found if e.row.space == space and e.row.of == "value"])
    if options.thin == 1:
        report.onto_page(report.read(options.out / "table.csv"))  # of the digits that the table has


if __name__ == "__main__":
    main()
