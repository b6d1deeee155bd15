"""HGCN in Flax against HGCN on torch: three spaces, attention, local aggregation, fixed and trained curvatures."""

from pathlib import Path

import pytest
import torch

from parity_tests.models.conversion import check_parity, check_round_trip, check_steps, converted, randomised
from parity_tests.models.graph_models import CLASSES, FEATURES, ours, refusals, theirs
from reference_torch.models.hgcn import HGCN
from weights.checkpoint import load
from weights.errors import ConversionError

BASE = {"model": "HGCN", "dim": 4, "num_layers": 3, "act": "tanh", "bias": 1, "dropout": 0.0, "r": 2.0, "t": 0.7,
        "use_att": 0, "local_agg": 0}  # fmt: skip
NC, LP = {"task": "nc", "n_classes": CLASSES}, {"task": "lp", "num_layers": 2}
CONFIGS = {
    "ball, classes": {**NC, "manifold": "PoincareBall", "c": 0.75, "use_att": 1},
    "ball, links, trained, local": {**LP, "manifold": "PoincareBall", "c": None, "use_att": 1, "local_agg": 1},
    "hyperboloid, classes, trained": {**NC, "manifold": "Hyperboloid", "c": None, "use_att": 1, "act": "relu"},
    "hyperboloid, links, local": {**LP, "manifold": "Hyperboloid", "c": 1.5, "use_att": 1, "local_agg": 1},
    "hyperboloid, links, no bias": {**LP, "manifold": "Hyperboloid", "c": 0.5, "bias": 0},
    "flat, links": {**LP, "manifold": "Euclidean", "c": 1.0, "use_att": 1, "local_agg": 1, "act": None},
}
OWN = ("model",)


def config_of(name: str) -> dict:
    config = {**BASE, **CONFIGS[name]}
    return {**config, "feat_dim": FEATURES + (config["manifold"] == "Hyperboloid")}


def reference(config: dict) -> HGCN:
    torch.manual_seed(1)
    module = HGCN(**{k: v for k, v in config.items() if k not in OWN})
    randomised(module, 0.7)
    if config["c"] is None:
        trained = [layer.linear.c for layer in module.encoder.layers] + [module.c]
        for c, value in zip(trained, (0.6, 1.7, 0.9), strict=True):
            c.data = torch.tensor([value], dtype=torch.float64)
    return module


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    config = config_of(name)
    module = reference(config)
    ckpt = converted(module, config, tmp_path)
    assert ckpt.arch == "hgcn"
    check_parity(module, ckpt, theirs, ours, single=config["task"] == "nc")
    check_round_trip(ckpt, tmp_path)


def test_steps_with_trained_curvatures(tmp_path: Path):
    config = config_of("hyperboloid, classes, trained")
    module = reference(config)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=0.1)
    check_steps(module, optimizer, {**config, "optimizer": "Adam"}, tmp_path, theirs, ours)


def test_a_trained_curvature_has_one_value_under_all_names(tmp_path: Path):
    config = config_of("ball, links, trained, local")
    module = reference(config)
    names = [key for key in module.state_dict() if key.rpartition(".")[2] in ("c", "c_in", "c_out")]
    assert len(names) == 10
    state = dict(module.state_dict())
    state["encoder.layers.1.agg.c"] = state["encoder.layers.1.agg.c"] + 1e-7
    torch.save(state, tmp_path / "untied.pth")
    with pytest.raises(ConversionError, match=r"encoder\.layers\.1\.agg\.c"):
        load(tmp_path / "untied.pth", config=config)
    assert len(converted(module, config, tmp_path).variables["params"]) == 5  # two layers, three curvatures


def test_curvature_is_asked_for(tmp_path: Path):
    config = config_of("ball, classes")
    torch.save(reference(config).state_dict(), tmp_path / "model.pth")
    bare = {k: v for k, v in config.items() if k != "c"}
    with pytest.raises(ConversionError, match="curvature"):
        load(tmp_path / "model.pth", config=bare)
    assert load(tmp_path / "model.pth", config=bare, curvature=0.75).model.c == 0.75


def test_the_model_is_named_where_keys_do_not_tell(tmp_path: Path):
    config = {**config_of("ball, classes"), "use_att": 0}
    torch.save(reference(config).state_dict(), tmp_path / "model.pth")
    config = {k: v for k, v in config.items() if k != "model"}
    with pytest.raises(ConversionError, match="hgcn, hnn"):
        load(tmp_path / "model.pth", config=config)
    assert load(tmp_path / "model.pth", config=config, arch="hgcn").arch == "hgcn"


def test_wrong_keys_are_refused(tmp_path: Path):
    config = config_of("ball, links, trained, local")
    state = reference(config).state_dict()
    for key in ("encoder.layers.0.linear.weight", "encoder.layers.1.agg.att.linear.weight"):
        assert refusals(state, key, tmp_path, lambda path: load(path, config=config), ConversionError) == []
