"""HNN in Flax against HNN on torch: ball and hyperboloid, fixed and trained curvature."""

from pathlib import Path

import pytest
import torch

from parity_tests.models.conversion import check_parity, check_round_trip, converted, randomised
from parity_tests.models.graph_models import CLASSES, FEATURES, ours, refusals, theirs
from reference_torch.models.hnn import HNN
from weights.checkpoint import load
from weights.errors import ConversionError

BASE = {"model": "HNN", "dim": 4, "num_layers": 2, "act": "tanh", "bias": 1, "dropout": 0.0, "r": 2.0, "t": 0.7}
CONFIGS = {
    "ball, links, trained": {"task": "lp", "manifold": "PoincareBall", "c": None},
    "hyperboloid, classes": {"task": "nc", "n_classes": CLASSES, "num_layers": 3, "manifold": "Hyperboloid", "c": 1.5},
}


def config_of(name: str) -> dict:
    config = {**BASE, **CONFIGS[name]}
    return {**config, "feat_dim": FEATURES + (config["manifold"] == "Hyperboloid")}


def reference(config: dict) -> HNN:
    torch.manual_seed(2)
    return randomised(HNN(**{k: v for k, v in config.items() if k != "model"}), 0.7)


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    config = config_of(name)
    module = reference(config)
    ckpt = converted(module, config, tmp_path)
    assert ckpt.arch == "hnn"
    check_parity(module, ckpt, theirs, ours)
    check_round_trip(ckpt, tmp_path)


def test_wrong_keys_are_refused(tmp_path: Path):
    config = config_of("ball, links, trained")
    state = reference(config).state_dict()
    assert (
        refusals(
            state, "encoder.layers.0.linear.weight", tmp_path, lambda path: load(path, config=config), ConversionError
        )
        == []
    )
