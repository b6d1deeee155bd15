"""Error of geoopt and of port_jax against the closed forms, over the grid, for every operation of the constant-curvature manifolds.

    python -m parity_tests.oracle.accuracy [--thin 1] [--out accuracy]

writes table.csv, table.md and one plot a space and dtype. Errors are relative (2-norm over 2-norm) in units of the dtype's eps;
`conditioned` divides the largest by one plus the condition number of the case.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import torch
from geoopt.manifolds.lorentz import math as lmath

from parity_tests.oracle import grid
from port_jax.manifolds import Lorentz, Stereographic, lorentz_to_poincare, poincare_to_lorentz

SPACES = {"ball": -1, "sphere": 1, "lorentz": -1}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    space: str
    operation: str
    dtype: str
    cases: int
    geoopt_p50: float
    geoopt_p99: float
    geoopt_max: float
    geoopt_not_finite: int
    port_jax_p50: float
    port_jax_p99: float
    port_jax_max: float
    port_jax_not_finite: int
    port_jax_conditioned: float


def measure(space: str, name: str, cases: Sequence[dict[str, Any]], dtype: Any) -> tuple[Row, np.ndarray, np.ndarray]:
    """The row of an operation, and the errors of geoopt and port_jax case by case."""
    formula = (grid.LORENTZ if space == "lorentz" else grid.BALL)[name]
    exact, condition = zip(*(grid.truth(formula, case, space) for case in cases))
    # A truth beyond the dtype's range has no right answer in it.
    kept = [
        i
        for i, e in enumerate(exact)
        if np.abs(e).max() < np.finfo(dtype).max / 8 and np.abs(e).max() > np.finfo(dtype).tiny
    ]
    cases, exact, condition = (
        [cases[i] for i in kept],
        np.array([exact[i] for i in kept]),
        np.array([condition[i] for i in kept]),
    )
    k = np.array([case["k"] for case in cases])
    arguments = [np.array([case[kind] for case in cases]) for kind in formula.kinds]
    mine = np.asarray(jax.jit(lambda k, *a: run_jax(space, name, formula, k, a))(k[:, None], *arguments))
    assert mine.dtype == dtype, (name, mine.dtype)
    theirs = np.full(exact.shape, np.nan)
    for value in np.unique(k):
        at = k == value
        theirs[at] = run_torch(
            space, name, formula, torch.tensor(value), [torch.tensor(a[at]) for a in arguments]
        ).numpy()
    if space == "lorentz" and exact.shape[1] > 1 and name != "lorentz_to_poincare":
        # far points: the space part carries the result, the time coordinate follows from it
        exact, mine, theirs = exact[:, 1:], mine[:, 1:], theirs[:, 1:]
    errors = [_error(have, exact) / np.finfo(dtype).eps for have in (theirs, mine)]
    row = Row(
        space, name, np.dtype(dtype).name, len(cases),
        *_summary(errors[0]), *_summary(errors[1]), float(np.max(errors[1] / (1 + condition))),
    )  # fmt: skip
    return row, errors[0], errors[1]


def run_jax(space: str, name: str, formula: grid.Formula, k: Any, arguments: Sequence[Any]) -> Any:
    """port_jax's value; k has a trailing axis of length 1."""
    if space != "lorentz":
        return getattr(Stereographic(k), name)(*arguments, **formula.options)
    if name == "poincare_to_lorentz":
        return poincare_to_lorentz(arguments[0], k)
    manifold = Lorentz(k)
    join = lambda a: jnp.concatenate([jnp.zeros_like(a[..., :1]), a], -1)  # noqa: E731
    x = manifold.projx(join(arguments[0]))
    if name == "lorentz_to_poincare":
        return lorentz_to_poincare(x, k)
    if name in ("expmap0",):
        return manifold.expmap0(join(arguments[0]))
    return getattr(manifold, name)(*_lift(formula, arguments, manifold, x, join, k, jnp), **formula.options)


def _lift(formula: grid.Formula, arguments: Sequence[Any], manifold: Any, x: Any, join: Any, k: Any, xp: Any) -> list:
    lifted = []
    for kind, a in zip(formula.kinds, arguments):
        if kind in "xy":
            lifted.append(manifold.projx(join(a)))
        elif kind == "u0":
            lifted.append(join(a))
        else:
            time = (x[..., 1:] / x[..., :1] * a).sum(-1, keepdims=True)
            lifted.append(xp.concatenate([time, a], -1) if xp is jnp else torch.cat([time, a], -1))
    return lifted


def run_torch(
    space: str, name: str, formula: grid.Formula, k: torch.Tensor, arguments: Sequence[torch.Tensor]
) -> torch.Tensor:
    """geoopt's value for one curvature."""
    if space != "lorentz":
        return getattr(geoopt.Stereographic(k.clone()), name)(*arguments, **formula.options)
    if name == "poincare_to_lorentz":
        return lmath.poincare_to_lorentz(arguments[0], k)
    manifold = geoopt.Lorentz(k.clone())
    join = lambda a: torch.cat([torch.zeros_like(a[..., :1]), a], -1)  # noqa: E731
    x = manifold.projx(join(arguments[0]))
    with torch.no_grad():
        if name == "lorentz_to_poincare":
            return lmath.lorentz_to_poincare(x, k)
        if name == "expmap0":
            return manifold.expmap0(join(arguments[0]))
        lifted = _lift(formula, arguments, manifold, x, join, k, torch)
        return getattr(manifold, name)(*(lifted[1:] if name == "norm" else lifted), **formula.options)


def _error(have: np.ndarray, exact: np.ndarray) -> np.ndarray:
    have = have.astype(np.float64)
    scale = np.abs(exact).max(-1, keepdims=True)
    error = np.linalg.norm(have / scale - exact / scale, axis=-1) / np.linalg.norm(exact / scale, axis=-1)
    return np.where(np.isfinite(error), error, np.inf)


def _summary(errors: np.ndarray) -> tuple[float, float, float, int]:
    ordered = np.sort(errors)
    at = lambda q: float(ordered[int(np.ceil(q * (len(ordered) - 1)))])  # noqa: E731
    return at(0.5), at(0.99), at(1.0), int(np.isinf(errors).sum())


def operations(space: str) -> dict[str, grid.Formula]:
    """The formulas of a space; the plain sphere has no sproj here, whose argument would be a point of the ambient space."""
    chosen = grid.LORENTZ if space == "lorentz" else grid.BALL
    return {name: f for name, f in chosen.items() if name != "sproj"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thin", type=int, default=1, help="use every n-th case of the grid")
    parser.add_argument("--out", type=Path, default=Path("accuracy"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    options.out.mkdir(exist_ok=True)
    rows = []
    for space, sign in SPACES.items():
        for dtype in (np.float32, np.float64):
            cases = grid.draw(space, dtype, sign, options.thin)
            errors = {}
            for name in operations(space):
                row, *errors[name] = measure(space, name, cases, dtype)
                rows.append(row)
                print(*(f"{v:.3g}" if isinstance(v, float) else v for v in asdict(row).values()), flush=True)
            plot(options.out / f"{space}_{np.dtype(dtype).name}.png", errors)
    write(options.out, rows)


def write(folder: Path, rows: Sequence[Row]) -> None:
    """table.csv and table.md."""
    names = [f.name for f in fields(Row)]
    with open(folder / "table.csv", "w", newline="") as file:
        csv.writer(file).writerows([names, *(asdict(row).values() for row in rows)])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for row in rows:
        lines.append(
            "| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in asdict(row).values()) + " |"
        )
    (folder / "table.md").write_text("Errors in units of the dtype's eps.\n\n" + "\n".join(lines) + "\n")


def plot(path: Path, errors: dict[str, Any]) -> None:
    """Sorted errors of each operation, geoopt beside port_jax."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = 5
    figure, axes = plt.subplots(
        -(-len(errors) // columns), columns, figsize=(15, 2.2 * -(-len(errors) // columns)), squeeze=False
    )
    for axis in axes.flat[len(errors) :]:
        axis.set_visible(False)
    for axis, (name, (theirs, mine)) in zip(axes.flat, errors.items()):
        for label, e in (("geoopt", theirs), ("port_jax", mine)):
            axis.semilogy(np.linspace(0, 1, len(e)), np.clip(np.sort(e), 1e-2, 1e18), label=label)
        axis.set_title(name, fontsize=8)
    axes.flat[0].legend(fontsize=7)
    figure.supylabel("relative error / eps")
    figure.supxlabel("share of the cases")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
