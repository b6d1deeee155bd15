"""Steps that differ in float32 alone are taken again from beside the file: at a kink they agree there, an error is there as well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.own_model.original import trained
from examples.own_model.port import PORT
from weights.checkpoint import load
from weights.proof import verify
from weights.proof.gates import NUDGES, Results


@dataclass
class Side:
    """Steps whose end is off by `errors[0]` at the file, and by one of the others from each start beside it."""

    errors: tuple[float, ...]

    def displaced(self, seed: int) -> Side:
        return Side((self.errors[seed],))


def results(error: float) -> Results:
    return Results(torch={"w": np.ones(3, np.float32)}, jax={"w": np.full(3, 1 + error, np.float32)}, drift={"w": 0.0}, scale={"w": 1.0})


@pytest.fixture
def stood_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sides that say how far their steps are apart."""
    monkeypatch.setattr(verify, "_step", lambda side, seed: results(side.errors[0]))
    monkeypatch.setattr(verify, "_values", lambda side, seed: {"grad": results(0.0)})


@pytest.mark.usefixtures("stood_in")
@pytest.mark.parametrize(
    ("narrow", "wide", "agree"),
    [
        ((1e-2, 0.0, 1e-2, 1e-2), (0.0, 0.0, 0.0, 0.0), True),
        ((1e-2, 1e-2, 1e-2, 0.0), (0.0, 0.0, 0.0, 0.0), True),
        ((1e-2, 1e-2, 1e-2, 1e-2), (0.0, 0.0, 0.0, 0.0), False),
        ((1e-2, 0.0, 0.0, 0.0), (0.0, 1e-2, 1e-2, 1e-2), False),
    ],
    ids=["a kink", "a kink near by as well", "an error in float32", "an error in float64 beside the file"],
)
def test_a_kink_is_told_from_an_error(narrow: tuple[float, ...], wide: tuple[float, ...], agree: bool):
    assert NUDGES == (1, 2, 3)
    sides = {"float64": Side(wide), "float32": Side(narrow)}
    rows = verify.gated("step", "float32", results(narrow[0]), results(wide[0]))
    assert verify.failed(rows)
    found = verify._beside(sides, rows, 0)
    assert verify.failed(found) is not agree
    assert [row.what for row in found] == (["w (0.001 beside the file, past a kink)"] if agree else ["w"])


def test_both_sides_begin_beside_the_file(tmp_path: Path):
    """Flat parameters of more than one number move, on both sides alike; points and a curvature stay."""
    torch.save(trained(2)[1], tmp_path / "own.pth")
    checkpoint = load(tmp_path / "own.pth", port=PORT)
    side = verify.both_sides(checkpoint, checkpoint, None, 0)("float64")
    other = side.displaced(1)
    at, beside = side.back(side.variables), other.back(other.variables)
    theirs = dict(other.module().named_parameters())
    for key, value in at.items():
        np.testing.assert_array_equal(beside[key], theirs[key].detach().numpy())
        moved = np.abs(beside[key] / np.where(value, value, 1) - 1)[value != 0]
        assert np.all(moved < 1e-2)
        assert (np.median(moved) > 1e-4) == (value.size > 1 and key not in side.curved)
    before, after = (one.outputs()["output"] for one in (side, other))
    assert np.max(np.abs(after - before)) > 1e-6
    np.testing.assert_allclose(after, verify._values_of(other.run_torch(other.module()))["output"], rtol=1e-10, atol=1e-12)
