"""Shallow embeddings in Flax against those on torch: trained and pretrained tables, with and without features."""

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import pytest
import torch

from parity_tests.models.conversion import converted
from parity_tests.models.graph_models import CLASSES, NODES, Frame
from port_jax.manifolds import PoincareBallExact
from reference_torch.models.shallow import Shallow
from weights.proof.verify import verify

BASE = {"dim": 4, "n_nodes": NODES, "bias": 1, "dropout": 0.0, "r": 2.0, "t": 0.7, "act": "relu"}
LP = {"task": "lp", "num_layers": 0, "pretrained_embeddings": None}
CONFIGS = {
    "links on the ball": {**LP, "manifold": "PoincareBall", "c": 0.75, "use_feats": 0},
    "links with features beside the points": {**LP, "manifold": "PoincareBall", "c": 1.5, "use_feats": 1},
    "links on the hyperboloid": {**LP, "manifold": "Hyperboloid", "c": 0.8, "use_feats": 0},
    "classes, pretrained": {"task": "nc", "n_classes": CLASSES, "num_layers": 2, "manifold": "Euclidean", "c": 1.0, "use_feats": 1,
                            "pretrained_embeddings": "embeddings.npy"},
}  # fmt: skip


FRAME = Frame(Shallow, CONFIGS, 1.0, BASE, ("model", "pretrained_embeddings"))


def reference(config: dict) -> Shallow:
    return placed(FRAME.module(config, pretrained=3 if config["pretrained_embeddings"] else None))


def placed(module: Shallow) -> Shallow:
    """A trained table with its points in general position."""
    if module.own.get("pretrained") is None:
        tangent = 0.5 * torch.randn(module.encoder.lt.shape, dtype=torch.float64)
        tangent[:, 0] *= not module.space.time
        module.encoder.lt.data = module.space.exp0(tangent, module.c).detach()
    return module


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
