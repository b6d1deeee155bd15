"""geoopt's optimizers as witness: the same starts and gradients through both, on all manifolds at once, at the project's gates.

`python -m parity_tests.optim.trajectories [OPTIMIZER ...]` runs the rows of `option_table` over 1000 steps and prints, for each
row and number of steps, the largest errors as parts of their gates, and where they are.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from parity_tests import draws
from parity_tests.optim.option_table import KINDS, ROWS, Row, rows_of
from parity_tests.optim.spaces import SPACES, Space
from port_jax.optim import RowGradients

SNAPSHOTS = (1, 10, 100, 1000)
NUDGES = 4
BATCH = 3

Arrays = dict[str, np.ndarray]


class Result(NamedTuple):
    """One parameter after some steps; errors and gates as parts of how far it has moved, the worst of its curvatures.

    error: in float64, gate 1e-10.
    error32, gate32: in float32, where the gate is ten times the drift of geoopt's own run: the largest that moving each
    coordinate of the start to a neighbouring float32 number makes, over NUDGES draws of the directions, since one draw alone
    can fall several times short.
    ours, theirs: the distances of both float32 runs from geoopt's float64 run with the same numbers. A drift from the start
    does not tell the rounding of the steps: two right programs whose formulas round differently part by more, after 1000 steps
    at 0.95 of a ball's radius by 20 ulp. So a float32 run that misses gate32 has to be as near the truth as geoopt's is:
    ours <= bound = 2 theirs + 4 ulp.
    """

    space: str
    steps: int
    error: float
    error32: float
    gate32: float
    ours: float
    theirs: float
    bound: float


def spaces_of(row: Row) -> dict[str, Space]:
    """Where geoopt can run the row: tables with one curvature for the sparse forms, an origin for decoupled decay."""
    chosen = {name: space for name, space in SPACES.items() if not set(space.refused) & set(row.options)}
    if row.optimizer.startswith("Sparse"):
        return {name: space.table() for name, space in chosen.items() if space.rows}
    return {name: space for name, space in chosen.items() if space.decays or row.optimizer != "AdamW"}


def part(row: Row) -> tuple[int, list[str]]:
    """What the suite runs of the row: the number of steps, and the manifolds.

    Each manifold goes to one row of each optimizer, in turn; the last row of an optimizer makes 1000 steps, the others 100.
    """
    rows, names = rows_of(row.optimizer), []
    for i, name in enumerate(SPACES):
        able = [r for r in rows if name in spaces_of(r)]
        if able and able[i % len(able)] is row:
            names.append(name)
    return (1000 if row is rows[-1] else 100), names


def gradients(spaces: Mapping[str, Space], steps: int, seed: int = 1) -> Arrays:
    """Independent normal gradients `[steps, *shape]`, complex for complex points; numbers that float32 holds."""
    rng = draws.rng(seed)
    noise = {name: rng.standard_normal((2, steps, *space.start.shape)).astype(np.float32) for name, space in spaces.items()}
    return {n: g[0] + 1j * g[1] if np.iscomplexobj(spaces[n].start) else g[0] for n, g in noise.items()}


def touched(rows: int, steps: int) -> np.ndarray:
    """Row numbers of each sparse step; they repeat, and the last row is never touched."""
    return draws.rng(2).integers(0, rows - 1, (steps, BATCH))


def cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    """In `dtype`, or in the complex type of its precision."""
    return array.astype(np.result_type(dtype, np.complex64) if np.iscomplexobj(array) else dtype)


def nudged(start: np.ndarray) -> np.ndarray:
    """`[1 + NUDGES, *shape]` in single precision: the start, and copies whose coordinates are moved to neighbouring numbers."""
    rng, single = draws.rng(7), cast(start, np.float32)
    real = single.view(np.float32)
    towards = np.where(rng.random((NUDGES, *real.shape)) < 0.5, -np.inf, np.inf).astype(np.float32)
    return np.concatenate([single[None], np.nextafter(real, towards).view(single.dtype)])


def run_torch(row: Row, spaces: Mapping[str, Space], grads: Arrays, dtype: Any) -> tuple[list[Arrays], dict[str, Arrays]]:
    """(points after 1, 10, ... steps; the state at the end by its key in torch), with an axis of copies in front.

    In float32 the copies are the nudged starts; in float64 the start, and the start as float32 has it.
    """
    steps = len(next(iter(grads.values())))
    sparse = row.optimizer.startswith("Sparse")
    leaves: dict[str, list[torch.nn.Parameter]] = {}
    shapes = {}
    for name, space in spaces.items():
        copies = nudged(space.start) if dtype == np.float32 else np.stack([space.start, cast(space.start, np.float32)])
        shapes[name] = copies.shape
        parts = copies.reshape(1, -1, copies.shape[-1]) if sparse else copies[None] if space.stacks else copies
        leaves[name] = [_parameter(space, part, dtype) for part in parts]
    opt = KINDS[row.optimizer].theirs([leaf for each in leaves.values() for leaf in each], row.options)
    trace = []
    for t in range(steps):
        for name, space in spaces.items():
            for leaf in leaves[name]:
                leaf.grad = _gradient(cast(grads[name][t], dtype), leaf, touched(len(space.start), steps)[t] if sparse else None)
        opt.step()
        if t + 1 in SNAPSHOTS:
            trace.append({n: np.stack([x.detach().numpy() for x in each]).reshape(shapes[n]) for n, each in leaves.items()})
    keys = {key for entry in opt.state.values() for key in entry} - {"step"}
    final = {
        key: {n: np.stack([np.asarray(opt.state[x][key]) for x in each]).reshape(shapes[n]) for n, each in leaves.items()} for key in keys
    }
    return trace, final


def _parameter(space: Space, points: np.ndarray, dtype: Any) -> Any:
    tensor, manifold = torch.tensor(cast(points, dtype)), space.of_geoopt(dtype)
    return torch.nn.Parameter(tensor) if manifold is None else geoopt.ManifoldParameter(tensor, manifold=manifold)


def _gradient(grad: np.ndarray, leaf: Any, rows: np.ndarray | None) -> torch.Tensor:
    """The gradient repeated for each copy in the leaf; of the given rows, where each value is its row's number in the batch's."""
    if rows is None:
        return torch.tensor(grad).expand_as(leaf).clone()
    n = len(grad)
    at = np.concatenate([rows + copy * n for copy in range(len(leaf) // n)])
    values = np.tile(grad[: len(rows)], (len(leaf) // n, 1))
    return torch.sparse_coo_tensor(torch.tensor(at)[None], torch.tensor(values), leaf.shape, check_invariants=False)


def run_jax(row: Row, spaces: Mapping[str, Space], grads: Arrays, dtype: Any) -> tuple[list[Arrays], Any]:
    """(points after 1, 10, ... steps; the state at the end). All steps in one compiled scan."""
    tx = KINDS[row.optimizer].ours(row.options, {name: space.of_port(dtype) for name, space in spaces.items()})
    steps = len(next(iter(grads.values())))
    start = {name: jnp.asarray(cast(space.start, dtype)) for name, space in spaces.items()}
    feed: Any = {name: jnp.asarray(cast(g, dtype)) for name, g in grads.items()}
    if isinstance(tx, optax.GradientTransformation):

        def moved(params: Any, state: Any, grad: Any) -> Any:
            updates, state = tx.update(grad, state, params)
            return optax.apply_updates(params, updates), state

        step: Any = moved
    else:
        step = tx.step
        feed = {n: RowGradients(jnp.asarray(touched(len(g[0]), steps)), g[:, :BATCH]) for n, g in feed.items()}

    def scanned(carry: Any, grad: Any) -> Any:
        carry = step(*carry, grad)
        return carry, carry[0]

    (_, state), trace = jax.jit(lambda p, g: jax.lax.scan(scanned, (p, tx.init(p)), g))(start, feed)
    at = [t for t in SNAPSHOTS if t <= steps]
    return [{n: np.asarray(points[t - 1]) for n, points in trace.items()} for t in at], jax.tree.map(np.asarray, state)


def compare(row: Row, steps: int, names: Iterable[str] = tuple(SPACES)) -> tuple[list[Result], list[str]]:
    """(every comparison; what misses its gate). Moments are compared at the end in float64, at 1e-10 of the largest."""
    spaces = {name: space for name, space in spaces_of(row).items() if name in names}
    grads = gradients(spaces, steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want, want_state = run_torch(row, spaces, grads, np.float64)
        want32, _ = run_torch(row, spaces, grads, np.float32)
    have, have_state = run_jax(row, spaces, grads, np.float64)
    have32, _ = run_jax(row, spaces, grads, np.float32)
    results, wrong = [], []
    for key, field in KINDS[row.optimizer].moments.items():
        for name, moment in want_state.get(key, {}).items():
            error = np.abs(getattr(have_state, field)[name] - moment[0]).max() / np.abs(moment).max()
            if not error <= 1e-10:
                wrong.append(f"{key} of {name} after {steps} steps in float64: relative error {error:.1e}, gate 1e-10")
    for i, t in enumerate(t for t in SNAPSHOTS if t <= steps):
        for name, space in spaces.items():
            (truth, truth32), single = want[i][name], want32[i][name]
            moved = _each(space, truth - space.start)
            error = _each(space, have[i][name] - truth) / moved
            error32 = _each(space, have32[i][name] - single[0]) / moved
            gate32 = 10 * np.max([_each(space, copy - single[0]) for copy in single[1:]], 0) / moved
            ours, theirs = (_each(space, p - truth32) / moved for p in (have32[i][name], single[0]))
            ulp = np.finfo(np.float32).eps * _each(space, space.start) / moved
            bound = 2 * theirs + 4 * ulp
            worst = int(np.argmax(np.nan_to_num(error32 / gate32, nan=np.inf)))
            results.append(Result(name, t, error.max(), *(x[worst] for x in (error32, gate32, ours, theirs, bound))))
            if not (error <= 1e-10).all():
                wrong.append(f"{name} after {t} steps in float64: {error.max():.1e} of the displacement, gate 1e-10")
            if not ((error32 <= gate32) | (ours <= bound)).all():
                wrong.append(f"{name} after {t} steps in float32: {results[-1]}")
    return results, wrong


def _each(space: Space, difference: np.ndarray) -> np.ndarray:
    """The largest entry, for each curvature."""
    size = np.abs(difference)
    return size.reshape(len(size), -1).max(1) if space.curvatures is not None and space.curvatures.ndim else size.max()[None]


def main(optimizers: Iterable[str]) -> int:
    rows = [row for row in ROWS if not optimizers or row.optimizer in optimizers]
    missed = []
    print("| optimizer | options | steps | manifolds | float64: error | at | float32: error / gate | at | beyond it | ours / theirs |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        results, wrong = compare(row, max(SNAPSHOTS))
        missed += [f"{row.optimizer}, {row}: {line}" for line in wrong]
        for t in SNAPSHOTS:
            these = [r for r in results if r.steps == t]
            first, second = max(these, key=lambda r: r.error), max(these, key=lambda r: r.error32 / r.gate32)
            beyond = [r for r in these if r.error32 > r.gate32]
            print(
                f"| {row.optimizer} | {row} | {t} | {len(these)} | {first.error:.0e} | {first.space} "
                f"| {second.error32 / second.gate32:.2f} | {second.space} | {len(beyond)} "
                f"| {max((r.ours / r.theirs for r in beyond), default=0):.2f} |",
                flush=True,
            )
    print("\n".join(missed) or "every comparison is within its gate", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    import parity_tests.conftest  # noqa: F401  (float64 and the settings of the reference)

    sys.exit(main(sys.argv[1:]))
