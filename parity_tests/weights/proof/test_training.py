"""Training is compared with the masks of dropout shared, and with what becomes of running statistics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flax.linen as nn
import pytest
import torch
from torch.nn import functional as F

import weights
from parity_tests import draws
from port_jax.layers import BatchNorm


class Original(torch.nn.Module):
    def __init__(self, noise: float = 0.0):
        super().__init__()
        self.noise = noise
        self.first, self.norm, self.second = torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 2)
        self.dropout = torch.nn.Dropout(0.25)

    def forward(self, x):
        h = self.dropout(torch.tanh(self.norm(self.first(x))))
        return F.dropout(self.second(h), 0.5, self.training) + (self.noise * torch.randn(1) if self.training and self.noise else 0)


class Flax(nn.Module):
    norm: Any = BatchNorm
    rate: float = 0.25

    @nn.compact
    def __call__(self, x, train=False):
        h = self.norm(not train, momentum=0.9, name="norm")(nn.Dense(6, name="first")(x))
        h = nn.Dropout(self.rate, deterministic=not train)(nn.tanh(h))
        return nn.Dropout(0.5, deterministic=not train)(nn.Dense(2, name="second")(h))


PORT = weights.Port(Flax(), inputs=draws.rng(0).normal(size=(5, 4)), train={"train": True})
QUICK: Any = {"level": "forward", "types": ("float64",)}


@pytest.fixture
def original() -> Original:
    draws.seed_torch(0)
    return Original()


def test_outputs_gradients_and_statistics_in_training(original: Original):
    found = weights.parity(PORT, original, level="grad", types=("float64",))
    assert found.ok, found
    rows = {row.what for row in found.rows if row.level == "train"}
    assert rows >= {"output", "new norm.running_mean", "new norm.running_var", "gradient of norm.weight", "gradient of first.bias"}


def test_what_is_not_compared_is_said(original: Original):
    """Without `train`, and where torch draws numbers that no input has."""
    said = str(weights.parity(replace(PORT, train=None), original, **QUICK))
    assert "Not verified: training (torch computes something else there, and the port does not say how" in said
    original.noise = 0.1
    assert "draws other random numbers than dropout's: make them inputs" in str(weights.parity(PORT, original, **QUICK))


@pytest.mark.slow
def test_flaxs_running_variance_is_named(original: Original):
    found = weights.parity(replace(PORT, model=Flax(nn.BatchNorm)), original, **QUICK)
    assert [row.what for row in found.rows if not row.ok] == ["new norm.running_var"]
    assert found.cause is not None
    assert found.cause.kind == "N in the place of N - 1 in the variance of norm"
    assert "BatchNorm" in found.cause.remedy


def test_another_rate_and_another_count(original: Original):
    with pytest.raises(weights.Unmatched, match=r"Dropout_0 in flax has the rate 0\.3 where torch has 0\.25 \(\S*test_training\.py:\d+\)"):
        weights.parity(replace(PORT, model=Flax(rate=0.3)), original, **QUICK)
    original.dropout.p = 0.0
    with pytest.raises(weights.Unmatched, match=r"has the rate 0\.25 where torch has 0\.5"):
        weights.parity(PORT, original, **QUICK)
