"""In a program of several processes one writes, whole or not at all, and each of them learns what came of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import weights
from parity_tests import draws, processes
from weights.files.tensors import from_array


@pytest.mark.slow  # training/test_plan.py saves and resumes in two processes
def test_two_processes_write_one_checkpoint(tmp_path: Path):
    """Also where a table is split over both. A path of its own, as of a folder on each machine, is an error and not half a folder."""
    table = draws.rng(0).uniform(-0.2, 0.2, (8, 3)).astype(np.float32)
    weights.write(tmp_path / "model.pth", {"emb": from_array(table), "bias": from_array(np.ones(3, np.float32))})
    out = tmp_path / "out"
    out.mkdir()
    processes.run("parity_tests.weights.saved_by_two", str(tmp_path / "model.pth"), str(out), devices=2, processes=2)
    for name in ("folder", "one.npz", "one.safetensors"):
        found = weights.restore(out / name).variables["params"]
        np.testing.assert_array_equal(found["emb"], table / 2, err_msg=name)
        np.testing.assert_array_equal(found["bias"], np.ones(3), err_msg=name)
    for name in ("back.pth", "again.pth"):
        np.testing.assert_array_equal(weights.load(out / name, arch="tree").variables["params"]["emb"], table / 2)
    assert {path.name for path in out.iterdir()} == {
        *("folder", "one.npz", "one.safetensors", "back.pth", "again.pth", "history.csv", "told_0", "told_1")
    }
    first, second = ((out / f"told_{n}").read_text().splitlines() for n in (0, 1))
    assert [line.partition(":")[0] for line in first] == ["NotWritten", "NotWritten", "Usage"]
    assert [line.partition(":")[0] for line in second] == ["NotWritten", "NotWritten", "Usage"]
    assert "process 0 did not write it: exists already. Give another path, or replace it with --force" in second[1]
    for line in (first[2], second[2]):
        assert "process 1 would write to another path than process 0. Give the same path in each process" in line
