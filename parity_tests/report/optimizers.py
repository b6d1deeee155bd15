"""Each optimizer on all manifolds that it has: 100 steps beside geoopt's from the same starts and gradients (`optim/trajectories.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from parity_tests import draws
from parity_tests.optim.option_table import KINDS, ROWS
from parity_tests.optim.option_table import Row as Options
from parity_tests.optim.trajectories import Result, compare, part
from weights.proof.report import Pair
from weights.proof.rows import Row

STEPS = 100
GATE = 1e-10
NAMES = {
    "Adam": ("riemannian_adam", "RiemannianAdam"),
    "SGD": ("riemannian_sgd", "RiemannianSGD"),
    "SparseAdam": ("sparse_riemannian_adam", "SparseRiemannianAdam"),
    "SparseSGD": ("sparse_riemannian_sgd", "SparseRiemannianSGD"),
    "AdamW": ("riemannian_adamw", "RiemannianAdamW"),
}
"""Of the kinds of the table: the file and the class."""


def pairs(chosen: Sequence[Options] = ROWS) -> Iterator[Pair]:
    """One pair for each optimizer; a row for each manifold, with the options that it meets there in the suite."""
    for name in KINDS:
        rows: list[Row] = []
        for options in (row for row in chosen if row.optimizer == name):
            draws.restart(f"report of {name}, {options}")
            results, wrong = compare(options, STEPS, part(options)[1])
            rows += _rows(options, results, wrong)
        if rows:
            stem, class_name = NAMES[name]
            yield Pair(stem, "optimizer", f"port_jax.optim.{stem}", f"reference_torch.optim.{stem}.{class_name}", tuple(rows))


def _rows(options: Options, results: Sequence[Result], wrong: Sequence[str]) -> Iterator[Row]:
    """In float32 the drift of geoopt's own run is the gate; beyond it, to be about as near to float64 as that run."""
    for space in dict.fromkeys(result.space for result in results):
        way, what = [result for result in results if result.space == space], f"{space} ({options})"
        named = {space, *(f"{moment} of {space}" for moment in KINDS[options.optimizer].moments)}
        missed = [line for line in wrong if line.partition(" after ")[0] in named]
        end = way[-1]
        trail = tuple((one.steps, one.error, GATE) for one in way)
        yield Row("step", "float64", what, end.error, GATE, not any("float64" in line for line in missed), trail=trail)
        trail = tuple((one.steps, one.error32, one.gate32) for one in way)
        error, limit = (end.error32, end.gate32) if end.error32 <= end.gate32 else (end.ours, end.bound)
        yield Row("step", "float32", what, error, limit, not any("float32" in line for line in missed), trail=trail)


__all__ = ["pairs"]
