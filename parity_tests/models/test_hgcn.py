"""HGCN in Flax against HGCN on torch: three spaces, attention, local aggregation, fixed and trained curvatures."""

from pathlib import Path

import pytest
import torch

from parity_tests import slow
from parity_tests.models.cases_hgcn import CONFIGS, FRAME, reference
from parity_tests.models.conversion import converted
from weights.checkpoint import load
from weights.errors import ConversionError


@pytest.mark.parametrize("name", slow.all_but({"hyperboloid, classes, trained", "flat, links"}, CONFIGS))
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path, reference(FRAME.config(name)), single=name == "ball, classes")


def test_a_trained_curvature_has_one_value_under_all_names(tmp_path: Path):
    config = FRAME.config("ball, links, trained, local")
    module = reference(config)
    names = [key for key in module.state_dict() if key.rpartition(".")[2] in ("c", "c_in", "c_out")]
    assert len(names) == 10
    state = dict(module.state_dict())
    state["encoder.layers.1.agg.c"] = state["encoder.layers.1.agg.c"] + 1e-7
    torch.save(state, tmp_path / "untied.pth")
    with pytest.raises(ConversionError, match=r"encoder\.layers\.1\.agg\.c"):
        load(tmp_path / "untied.pth", config=config)
    params = converted(module, config, tmp_path).variables["params"]
    assert len(params) == 5  # two layers, three curvatures
    assert [params[f"manifolds_{l}"]["c"].item() for l in range(3)] == [0.6, 1.7, 0.9]


def test_curvature_is_asked_for(tmp_path: Path):
    config = FRAME.config("ball, classes")
    torch.save(reference(config).state_dict(), tmp_path / "model.pth")
    bare = {k: v for k, v in config.items() if k != "c"}
    with pytest.raises(ConversionError, match="curvature"):
        load(tmp_path / "model.pth", config=bare)
    assert load(tmp_path / "model.pth", config=bare, curvature=0.75).model.c == 0.75


def test_the_model_is_named_where_keys_do_not_tell(tmp_path: Path):
    config = {**FRAME.config("ball, classes"), "use_att": 0}
    torch.save(reference(config).state_dict(), tmp_path / "model.pth")
    config = {k: v for k, v in config.items() if k != "model"}
    with pytest.raises(ConversionError, match="hgcn, hnn"):
        load(tmp_path / "model.pth", config=config)
    assert load(tmp_path / "model.pth", config=config, arch="hgcn").arch == "hgcn"
