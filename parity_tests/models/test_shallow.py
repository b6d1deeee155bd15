"""Shallow embeddings in Flax against those on torch: trained and pretrained tables, with and without features."""

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import pytest
import torch

from parity_tests.models.cases_shallow import CONFIGS, FRAME, placed, reference
from parity_tests.models.conversion import converted
from port_jax.manifolds import PoincareBallExact
from weights.proof.verify import verify


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path, reference(FRAME.config(name)), single="links on the ball" in name)


@pytest.mark.slow  # test_verify.py has HGAT with a trained curvature
def test_verify_of_a_trained_curvature_without_an_optimizer(tmp_path: Path):
    """The fresh optimizer lets the curvature stand: it would leave points off the hyperboloid, where geoopt's gradients are NaN."""
    config = FRAME.config("links on the hyperboloid") | {"c": None}
    module = FRAME.module(config)
    module.c.data = torch.tensor([1.7], dtype=torch.float64)
    ckpt = converted(placed(module), config, tmp_path)
    rows = verify(ckpt, tmp_path / "model.pth")
    assert [row for row in rows if not row.ok] == []
    assert {row.what for row in rows if row.level == "step"} == {f"{key} (fresh RiemannianAdam)" for key in ("c", "encoder.lt")}
    wrong = replace(ckpt, variables={"params": {**ckpt.variables["params"], "manifolds_0": {"c": jnp.array([1.8])}}})
    assert "step" in {row.level for row in verify(wrong, tmp_path / "model.pth", types=("float64",)) if not row.ok}


def test_the_table_moves_by_the_exponential_map():
    config = FRAME.config("links on the ball")
    model = load_model(config)
    assert isinstance(model.manifolds({"lt": None})["lt"], PoincareBallExact)


def load_model(config: dict):
    from port_jax.models import Shallow as Ported

    return Ported(**{k: v for k, v in config.items() if k not in ("model", "pretrained_embeddings")})
