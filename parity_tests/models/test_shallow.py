"""Shallow embeddings in Flax against those on torch: trained and pretrained tables, with and without features."""

from pathlib import Path

import pytest
import torch

from parity_tests.models.conversion import check_parity, check_round_trip, converted, randomised
from parity_tests.models.graph_models import CLASSES, FEATURES, NODES, ours, refusals, theirs
from port_jax.manifolds import PoincareBallExact
from reference_torch.models.shallow import Shallow
from weights.checkpoint import load
from weights.errors import ConversionError

BASE = {
    "model": "Shallow",
    "feat_dim": FEATURES,
    "dim": 4,
    "n_nodes": NODES,
    "bias": 1,
    "dropout": 0.0,
    "r": 2.0,
    "t": 0.7,
    "act": "relu",
}
LP = {"task": "lp", "num_layers": 0, "pretrained_embeddings": None}
CONFIGS = {
    "links on the ball": {**LP, "manifold": "PoincareBall", "c": 0.75, "use_feats": 0},
    "links with features beside the points": {**LP, "manifold": "PoincareBall", "c": 1.5, "use_feats": 1},
    "classes, pretrained": {"task": "nc", "n_classes": CLASSES, "num_layers": 2, "manifold": "Euclidean", "c": 1.0, "use_feats": 1,
                            "pretrained_embeddings": "embeddings.npy"},
}  # fmt: skip


def reference(config: dict) -> Shallow:
    torch.manual_seed(4)
    settings = {k: v for k, v in config.items() if k not in ("model", "pretrained_embeddings")}
    return randomised(Shallow(**settings, pretrained=3 if config["pretrained_embeddings"] else None), 1.0)


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    config = {**BASE, **CONFIGS[name]}
    module = reference(config)
    ckpt = converted(module, config, tmp_path)
    assert ckpt.arch == "shallow"
    check_parity(module, ckpt, theirs, ours)
    check_round_trip(ckpt, tmp_path)


def test_the_table_moves_by_the_exponential_map():
    config = {**BASE, **CONFIGS["links on the ball"]}
    model = load_model(config)
    assert isinstance(model.manifolds({"lt": None})["lt"], PoincareBallExact)


def load_model(config: dict):
    from port_jax.models import Shallow as Ported

    return Ported(**{k: v for k, v in config.items() if k not in ("model", "pretrained_embeddings")})


def test_wrong_keys_are_refused(tmp_path: Path):
    config = {**BASE, **CONFIGS["classes, pretrained"]}
    state = reference(config).state_dict()
    for key in ("encoder.lt", "encoder.layers.0.linear.weight"):
        assert refusals(state, key, tmp_path, lambda path: load(path, config=config), ConversionError) == []
