"""HyboNet in Flax against HyboNet on torch and geoopt, and against what its authors' code computed."""

from pathlib import Path

import geoopt
import pytest
import torch

from parity_tests.models.cases_hybonet import CONFIGS, FRAME, reference
from parity_tests.models.conversion import check_steps
from parity_tests.models.fixtures import check_folder
from parity_tests.models.graph_models import ours, theirs
from weights.checkpoint import load
from weights.errors import ConversionError

FOLDER = Path(__file__).parents[3] / "shared" / "fixtures" / "hybonet_disease_lp_att"


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
