"""HyboNet in Flax against HyboNet on torch and geoopt, and against what its authors' code computed."""

from pathlib import Path

import geoopt
import pytest
import torch

from parity_tests import draws
from parity_tests.models.conversion import check_steps, randomised
from parity_tests.models.fixtures import check_folder
from parity_tests.models.graph_models import CLASSES, Frame, ours, theirs
from reference_torch.models.hybonet import HyboNet
from weights.checkpoint import load
from weights.errors import ConversionError

FOLDER = Path(__file__).parents[3] / "shared" / "fixtures" / "hybonet_disease_lp_att"
BASE = {"manifold": "Lorentz", "c": 1.0, "dim": 4, "bias": 1, "dropout": 0.0, "local_agg": 1}
CONFIGS = {
    "classes, attention": {"task": "nc", "n_classes": CLASSES, "num_layers": 3, "act": "relu", "use_att": 1},
    "links, attention": {"task": "lp", "num_layers": 2, "act": "relu", "use_att": 1},
    "links": {"task": "lp", "num_layers": 2, "act": None, "use_att": 0, "bias": 0},
}
FRAME = Frame(HyboNet, CONFIGS, 0.9, BASE, ("model", "manifold", "c", "local_agg"))


def reference(config: dict) -> HyboNet:
    draws.seed_torch(5)
    module = HyboNet(**{k: v for k, v in config.items() if k not in FRAME.carried})
    keep = [key for key, _ in module.named_parameters() if key.endswith(("manifold.k", "agg.bias"))]
    for key, p in module.named_parameters():
        if key.endswith("agg.bias"):
            p.data.fill_(0.7)  # the start, 20, saturates the sigmoid: no gradient to compare
    randomised(module, 0.9, keep=keep).eval()  # keys and queries have dropout whatever the settings say
    if module.decoder is not None:
        module.decoder.cls.data = module.decoder.manifold.projx(module.decoder.cls.data)  # on it in float64 too
    return module


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path, reference(FRAME.config(name)), single=name == "classes, attention")


def test_steps_in_its_groups(tmp_path: Path):
    config = FRAME.config("classes, attention")
    module = reference(config)
    decays, still = [], []
    for name, p in module.named_parameters():
        if p.requires_grad:
            flat = not isinstance(p, geoopt.ManifoldParameter)
            (decays if flat and "bias" not in name and "scale" not in name else still).append(p)
    groups = [{"params": decays, "weight_decay": 0.1}, {"params": still, "weight_decay": 0.0}]
    optimizer = geoopt.optim.RiemannianAdam(groups, lr=0.01, stabilize=4)
    check_steps(module, optimizer, {**config, "optimizer": "radam"}, tmp_path, theirs, ours)


def test_a_curvature_that_the_maps_do_not_hold_for_is_refused(tmp_path: Path):
    config = FRAME.config("links")
    state = reference(config).state_dict()
    state["encoder.layers.0.agg.manifold.k"] = torch.tensor(2.0)
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(ConversionError, match="k = 1"):
        load(tmp_path / "model.pth", config=config)


@pytest.mark.skipif(not FOLDER.exists(), reason=f"{FOLDER} is not here: the authors' checkpoints are no part of this project")
def test_checkpoint_of_the_authors_with_its_optimizer():
    assert check_folder(FOLDER) == []
