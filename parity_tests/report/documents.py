"""What the page takes from the project's documents, and what it does not cover."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from parity_tests.oracle import exceptions
from parity_tests.oracle import report as table
from weights.proof.report import Accuracy, Errors, OnPurpose, Open, Pair

HOME = Path(__file__).parents[2]
STATISTICS = ("p50", "p99", "max", "not_finite")
BESIDE = {
    "graphs/graph": "a container, through which all models of graphs are compared",
    "layers/tangent": "a helper of the other layers",
    "layers/learnable_curvature": "a part of the models with a trained curvature",
    "models/node_model": "a part of HGCN, HNN, GCN, GAT and MLP",
    "models/tree": "torch's side of a tree of parameters",
    "optim/by_groups": "a part of the models' own optimizers",
    "optim/from_torch/repositories": "the models' own optimizers, with which their pairs step",
    "torch_file": "a helper that writes files",
}
"""Originals that are no pair by themselves, and why nothing is missing."""
THROUGH = ("layers/gcn", "layers/hgat", "layers/hgcn", "layers/hgcn_spaces", "layers/hybonet", "layers/decoders")
"""Layers that their models run."""
BEYOND = (
    ("devices", "GPUs and TPUs", "this page is computed on a processor; `bench` and the tests of devices say what was run elsewhere"),
    ("types", "float16 and bfloat16", "torch has no reference for them: `optim/test_half_precision.py` and `manifolds/test_calls.py`"),
    ("optimizers", "more than 100 steps", "`make trajectories` takes 1000 with every row of options on every manifold"),
    ("files", "authors' own checkpoints", "they are no part of the project; `models/test_node_model.py` compares them where they are"),
    ("random numbers", "torch's streams", "JAX draws others; laws are compared: `samplers/test_samplers.py`, `test_distributions.py`"),
)
"""What no pair can show."""


def accuracy() -> list[Accuracy]:
    """The lines of accuracy/table.csv, with the reasons of `oracle/exceptions.py`."""
    reasons: dict[exceptions.Key, list[str]] = {}
    for group in (*exceptions.ABOVE, *exceptions.BEYOND):
        for key in group.rows():
            reasons.setdefault(key, []).append(group.reason)
    found = []
    for row in table.read(HOME / "accuracy" / "table.csv"):
        theirs, ours = (Errors(*(getattr(row, f"{side}_{at}") for at in STATISTICS)) for side in ("geoopt", "port_jax"))
        note = " ".join(dict.fromkeys(reasons.get(row.key, ())))
        found.append(Accuracy(row.space, row.operation, row.of, row.dtype, row.cases, theirs, ours, note))
    return found


def differences() -> list[OnPurpose]:
    """The rows of docs/differences.md."""
    lines = (HOME / "docs" / "differences.md").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| case |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        found.append(OnPurpose(*cells))
    return found


def not_covered(pairs: Iterable[Pair]) -> Iterator[Open]:
    """Originals without a pair on the page, and what no pair can show."""
    seen = {pair.original.rpartition(".")[0].removeprefix("reference_torch.").replace(".", "/") for pair in pairs}
    for path in sorted((HOME / "reference_torch").rglob("*.py")):
        name = path.relative_to(HOME / "reference_torch").with_suffix("").as_posix()
        if path.name != "__init__.py" and name not in {*seen, *BESIDE, *THROUGH}:
            test = next((HOME / "parity_tests").rglob(f"test_{path.stem}.py"), None)
            where = f"`{test.relative_to(HOME / 'parity_tests').as_posix()}` compares it" if test else "the tests compare it"
            yield Open("originals", f"reference_torch/{name}.py", f"it has no pair on this page; {where}")
    yield from (Open(*row) for row in BEYOND)


__all__ = ["accuracy", "differences", "not_covered"]
