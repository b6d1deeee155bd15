"""GAT in Flax against GAT on torch: classes and links."""

from pathlib import Path

import pytest
import torch

from parity_tests.models.conversion import check_parity, check_round_trip, converted, randomised
from parity_tests.models.graph_models import CLASSES, FEATURES, ours, refusals, theirs
from reference_torch.models.gat import GAT
from weights.checkpoint import load
from weights.errors import ConversionError

BASE = {
    "model": "GAT",
    "feat_dim": FEATURES,
    "dim": 4,
    "manifold": "Euclidean",
    "bias": 1,
    "dropout": 0.0,
    "r": 2.0,
    "t": 0.7,
    "c": 1.0,
}
CONFIGS = {
    "classes": {"task": "nc", "n_classes": CLASSES, "num_layers": 3, "act": "relu", "n_heads": 2, "alpha": 0.2},
    "links": {"task": "lp", "num_layers": 1, "act": "elu", "n_heads": 4, "alpha": 0.4},
}


def config_of(name: str) -> dict:
    return {**BASE, **CONFIGS[name]}


def reference(config: dict) -> GAT:
    torch.manual_seed(3)
    return randomised(GAT(**{k: v for k, v in config.items() if k != "model"}), 1.0)


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    config = config_of(name)
    module = reference(config)
    ckpt = converted(module, config, tmp_path)
    assert ckpt.arch == "gat"
    check_parity(module, ckpt, theirs, ours)
    check_round_trip(ckpt, tmp_path)


def test_wrong_keys_are_refused(tmp_path: Path):
    config = config_of("classes")
    state = reference(config).state_dict()
    for key in ("encoder.layers.0.attention_1.W", "encoder.layers.1.attention_0.a"):
        assert refusals(state, key, tmp_path, lambda path: load(path, config=config), ConversionError) == []
