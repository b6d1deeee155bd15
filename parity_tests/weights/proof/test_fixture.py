"""The fixture for a person's own tests: right sides pass, wrong ones fail with the explanation."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import flax.linen as nn
import numpy as np
import pytest
import torch

import weights
from parity_tests import draws
from weights.proof.fixture import parity  # noqa: F401

PORT = weights.Port(nn.Sequential([nn.Dense(3), nn.tanh, nn.Dense(2)]), inputs=draws.rng(6).normal(size=(5, 4)))
QUICK = {"level": "forward", "types": ("float64",)}
TEST = """
import flax.linen as nn, numpy as np, torch, weights
def test_mine(parity):
    port = weights.Port(nn.Dense(2), inputs=np.ones((1, 3)))
    parity(port, torch.nn.Linear(3, 2), level="forward", types=("float64",))
"""


def test_it_fails_with_the_explanation(parity):  # noqa: F811
    draws.seed_torch(5)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    assert parity(PORT, module, **QUICK).ok
    with pytest.raises(pytest.fail.Exception, match=r"comparisons failed(.|\n)*It looks like a factor of 2 at linear in 0"):
        parity(replace(PORT, model=nn.Sequential([nn.Dense(3), lambda x: nn.tanh(2 * x), nn.Dense(2)])), module, **QUICK)
    with pytest.raises(pytest.fail.Exception, match=r"not shown: 0.weight with the other sign. Inputs such as"):
        parity(PORT, module, np.zeros((5, 4)), mutants=True, **QUICK)


@pytest.mark.slow
def test_it_needs_nothing_of_this_suite(tmp_path: Path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["weights.proof.fixture"]\n')
    (tmp_path / "test_mine.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:random_order", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": str(Path(__file__).parents[3]), "JAX_PLATFORMS": "cpu"})  # fmt: skip
    assert done.returncode == 0, done.stdout
