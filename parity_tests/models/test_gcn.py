"""GCN in Flax against GCN on torch: classes and links."""

from pathlib import Path

import pytest
import torch

from parity_tests.models.conversion import check_parity, check_round_trip, converted, randomised
from parity_tests.models.graph_models import CLASSES, FEATURES, ours, refusals, theirs
from reference_torch.models.gcn import GCN
from weights.checkpoint import load
from weights.errors import ConversionError

BASE = {
    "model": "GCN",
    "feat_dim": FEATURES,
    "dim": 4,
    "manifold": "Euclidean",
    "bias": 1,
    "dropout": 0.0,
    "r": 2.0,
    "t": 0.7,
}
CONFIGS = {
    "classes": {"task": "nc", "n_classes": CLASSES, "num_layers": 3, "act": "relu", "c": 1.0},
    "links, a curvature that is stored and unused": {"task": "lp", "num_layers": 2, "act": None, "c": None, "bias": 0},
}


def config_of(name: str) -> dict:
    return {**BASE, **CONFIGS[name]}


def reference(config: dict) -> GCN:
    torch.manual_seed(3)
    return randomised(GCN(**{k: v for k, v in config.items() if k != "model"}), 1.5)


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    config = config_of(name)
    module = reference(config)
    ckpt = converted(module, config, tmp_path)
    assert ckpt.arch == "gcn"
    check_parity(module, ckpt, theirs, ours)
    check_round_trip(ckpt, tmp_path)


def test_wrong_keys_are_refused(tmp_path: Path):
    config = config_of("classes")
    state = reference(config).state_dict()
    assert (
        refusals(
            state, "encoder.layers.0.linear.weight", tmp_path, lambda path: load(path, config=config), ConversionError
        )
        == []
    )
