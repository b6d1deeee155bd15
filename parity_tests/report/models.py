"""Each architecture: a small model trained in torch, its file converted and verified, as `models/test_verify.py` does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from parity_tests import draws
from parity_tests.models.conversion import trained
from parity_tests.models.planted_errors import CASES, load_ball
from weights.checkpoint import load
from weights.proof.reading import Said
from weights.proof.report import Pair
from weights.proof.verify import TYPES, verify


def pairs(names: tuple[str, ...] = tuple(CASES)) -> Iterator[Pair]:
    """One pair for each model."""
    for name in names:
        draws.restart(f"report of {name}")
        case = CASES[name]
        module, config = case.make()
        with tempfile.TemporaryDirectory() as folder:
            path = trained(module.eval(), case.optimizer(module.parameters(), lr=0.01), Path(folder), case.run)
            options = {"arch": "tree", "manifolds": {"emb": load_ball(path)}} if name == "tree" else {"config": config}
            said = options | case.options
            rows = verify(ckpt := load(path, **said), path, said=Said(**said), types=TYPES)
        sides = "a tree of parameters", "geoopt"
        if ckpt.model is not None:
            sides = f"port_jax.models.{type(ckpt.model).__name__}", f"{type(module).__module__}.{type(module).__name__}"
        yield Pair(name, "model", *sides, tuple(rows))


__all__ = ["pairs"]
