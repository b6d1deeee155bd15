"""Each layer to build with beside its original: outputs and gradients in both types, as `layers/twins.py` checks them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from parity_tests import draws, layers
from parity_tests.layers.twins import RADIUS, Twin, over_draws
from parity_tests.tolerances import gate, no_worse_bound
from weights.proof.report import Pair
from weights.proof.rows import Row, Ulp, largest

LEVELS = ("forward", "grad")


def twins() -> list[Twin]:
    """Those of all tests of layers."""
    names = sorted(path.stem for path in Path(layers.__path__[0]).glob("test_*.py"))
    modules = [import_module(f"parity_tests.layers.{name}") for name in names]
    return [twin for module in modules for twin in getattr(module, "TWINS", ())]


def pairs(chosen: Sequence[Twin] | None = None) -> Iterator[Pair]:
    """One pair for each layer."""
    for twin in twins() if chosen is None else chosen:
        draws.restart(f"report of {twin!r}")
        original = twin.original(_space(twin))
        name = f"{type(twin.layer).__name__}: {twin.name}, {twin.space}"
        yield Pair(name, "layer", f"port_jax.layers.{type(twin.layer).__name__}", f"{type(original).__module__}.{type(original).__name__}",
                   (*_double(twin), *_single(twin)))  # fmt: skip


def _space(twin: Twin) -> Any:
    import geoopt

    from parity_tests.layers.twins import NUMBER

    number = torch.tensor(NUMBER[twin.space], dtype=torch.float64)
    return geoopt.Stereographic(-number) if twin.space == "ball" else geoopt.Lorentz(number)


def _named(found: Any) -> Iterator[tuple[str, str, np.ndarray]]:
    """(level, name, array) of outputs and gradients."""
    for level, tree in zip(LEVELS, found, strict=True):
        for path, array in jax.tree_util.tree_leaves_with_path(tree):
            name = "/".join(str(getattr(step, "key", getattr(step, "idx", step))) for step in path)
            yield level, f"output {name}" if level == "forward" else name.replace("number", "curvature"), np.asarray(array)


def _double(twin: Twin) -> Iterator[Row]:
    raw = twin.raw(1)
    cotangents = twin.cotangents(raw)
    ours, theirs = twin.program(raw, cotangents), twin.torch_sides(raw, cotangents, torch.float64)
    for (level, name, a), (_, _, b) in zip(_named(ours), _named(theirs), strict=True):
        error, limit = largest(a - b) / (largest(b) or 1.0), gate(RADIUS, LEVELS.index(level))
        yield Row(level, "float64", name, error, limit, bool(error < limit), ulp=Ulp.of(b, a))


def _single(twin: Twin) -> Iterator[Row]:
    for (level, name, a), (_, _, b), (_, _, t) in zip(*map(_named, over_draws(twin)), strict=True):
        top = largest(t) or 1.0
        error, limit = largest(a.astype(np.float64) - t) / top, no_worse_bound(b, t) / top
        yield Row(level, "float32", name, error, limit, bool(error <= limit), ulp=Ulp.of(b.astype(np.float32), a))


__all__ = ["pairs", "twins"]
