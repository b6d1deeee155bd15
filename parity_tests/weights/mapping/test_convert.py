"""The engine: everything matched once, or an error that names key, found, expected and remedy; nothing else is written."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

import weights
from parity_tests import draws
from parity_tests.models import cases_mlp
from parity_tests.weights.helpers import assert_deep_equal, ties
from parity_tests.weights.toy import TOY
from weights import ConversionError, Unmatched, Usage
from weights.mapping.rules import TRANSPOSE, chain, permute, reshape
from weights.models import ARCHITECTURES

RAW = torch.tensor(math.log(math.expm1(0.7)))


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "toy", TOY)


def state() -> OrderedDict:
    draws.seed_torch(0)
    return OrderedDict({
        "ball.isp_c": RAW, "emb": 0.1 * torch.randn(4, 5), "att": torch.randn(1, 2, 5),
        "layers.0.weight": torch.randn(5, 5), "layers.0.bias": torch.randn(5), "layers.0.ball.isp_c": RAW,
        "layers.1.weight": torch.randn(5, 5), "layers.1.bias": torch.randn(5), "layers.1.ball.isp_c": RAW, "steps": torch.tensor(3),
    })  # fmt: skip


CONFIG = {"scale": 2.0}


def saved(path, tree, **extra):
    torch.save({"model": tree, **extra} if extra else tree, path)
    return path


def test_round_trip_in_layout_and_ties(tmp_path):
    tree = state()
    ckpt = weights.load(saved(tmp_path / "x.pth", tree, epoch=4, lr_scheduler={"last_epoch": 4, "x": (1, None)}), config=CONFIG)
    assert (ckpt.arch, ckpt.epoch) == ("toy", 4)
    assert ckpt.settings["curvature"] == [pytest.approx(0.7, rel=1e-6)]
    assert np.array_equal(ckpt.variables["params"]["dense_1"]["kernel"], tree["layers.1.weight"].T.numpy())
    assert ckpt.variables["params"]["att"].shape == (2, 5)
    assert sorted(ckpt.constants) == ["ball.isp_c", "steps"]
    weights.export(ckpt, tmp_path / "y.pth")
    back = torch.load(tmp_path / "y.pth", weights_only=True)
    assert_deep_equal(torch.load(tmp_path / "x.pth"), back)
    assert ties(back["model"]) == [["ball.isp_c", "layers.0.ball.isp_c", "layers.1.ball.isp_c"]]
    jax.eval_shape(ckpt.model.apply, ckpt.variables, np.zeros((1, 3), np.float32))


def changed(tree, **kwargs):
    return OrderedDict({**tree, **kwargs})


BAD = {
    "missing": (
        lambda t: OrderedDict((k, v) for k, v in t.items() if k != "layers.1.bias"),
        "'layers.1.bias' is missing",
    ),
    "unexpected": (lambda t: changed(t, extra=torch.ones(2)), "'extra' is unexpected"),
    "renamed": (
        lambda t: OrderedDict((k.replace("1.bias", "1.bais"), v) for k, v in t.items()),
        "nearest key in the file is 'layers.1.bais'",
    ),
    "shape": (
        lambda t: changed(t, **{"layers.0.bias": torch.ones(7)}),
        r"'layers.0.bias' has shape \(7,\); the model takes \(5,\)",
    ),
    "nan": (
        lambda t: changed(t, emb=t["emb"].index_fill(1, torch.tensor([2]), float("nan"))),
        r"'emb' contains nan at \(0, 2\): 4 of 20",
    ),
    "inf": (lambda t: changed(t, att=t["att"] / 0), "'att' contains -?inf"),
    "integer": (lambda t: changed(t, emb=torch.ones(4, 5, dtype=torch.int64)), "'emb' is int64"),
    "untied": (
        lambda t: changed(t, **{"layers.1.ball.isp_c": RAW + 1e-6}),
        "'layers.1.ball.isp_c' differs from 'ball.isp_c'",
    ),
    "tied": (lambda t: changed(t, **{"layers.1.weight": t["layers.0.weight"]}), "are one tensor in the file"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_named(tmp_path, name):
    change, message = BAD[name]
    path = saved(tmp_path / "x.pth", change(state()))
    with pytest.raises(Unmatched, match=message) as caught:
        weights.load(path, config=CONFIG)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_a_transposed_weight_is_recognised(tmp_path):
    tree = state()
    tree["att"] = torch.randn(1, 2, 5)
    for i in range(2):
        tree[f"layers.{i}.weight"] = torch.randn(5, 5)
    module = weights.load(saved(tmp_path / "x.pth", tree), config=CONFIG).model
    assert module.width == 5
    from weights.files.tensors import from_array
    from weights.mapping.convert import plan
    from weights.mapping.rules import linear

    with pytest.raises(Unmatched, match=r"has shape \(3, 2\); the model takes \(2, 3\) \(its transpose would fit\)"):
        plan({"a.weight": from_array(np.ones((3, 2)))}, linear("a", "params/a")[:1], {"params/a/kernel": (3, 2)})
    twice = {"a.weight": from_array(np.ones((3, 2))), "b.weight": from_array(np.ones((3, 2)))}
    with pytest.raises(Unmatched, match="both become params/a/kernel"):
        plan(twice, [linear("a", "params/a")[0], linear("b", "params/a")[0]], {"params/a/kernel": (2, 3)})


def test_a_gap_or_a_conflict_names_the_option(tmp_path):
    path = saved(tmp_path / "x.pth", state())
    with pytest.raises(Usage, match="scale is neither"):
        weights.load(path)
    with pytest.raises(Unmatched, match="width is 7 according to config and 5 according to shape of emb"):
        weights.load(path, config={**CONFIG, "width": 7})
    with pytest.raises(Unmatched, match=r"'ball.isp_c' in the file gives curvature 0\.7, the option gives 1"):
        weights.load(path, config=CONFIG, curvature=1.0)
    weights.load(path, config={**CONFIG, "curvature": 0.7})
    # A hundred roundings of float32 are another number, and one or two are the file's.
    for sign in (1, -1):
        near, other = (0.7 * (1 + sign * n * 2.0**-24) for n in (2, 100))
        weights.load(path, config={**CONFIG, "curvature": near})
        for said in ({"config": {**CONFIG, "curvature": other}}, {"config": CONFIG, "curvature": other}):
            with pytest.raises(Unmatched, match=r"in the file gives curvature 0\.7\d*, the (option|configuration)"):
                weights.load(path, **said)
    without = OrderedDict((k, v) for k, v in state().items() if "isp_c" not in k)
    path = saved(tmp_path / "y.pth", without)
    with pytest.raises(Usage, match="--curvature"):
        weights.load(path, config=CONFIG)
    with pytest.raises(Unmatched, match="--curvature is"):
        weights.load(path, config={**CONFIG, "curvature": 2.0}, curvature=1.0)
    with pytest.raises(Unmatched, match="--curvature is"):
        weights.load(path, config={**CONFIG, "curvature": 1.0}, curvature=1.0 + 1e-7)
    assert weights.load(path, config=CONFIG, curvature=0.3).settings["curvature"] == [0.3]
    with pytest.raises(Usage, match="no architecture is called 'hgcnn'"):
        weights.load(path, arch="hgcnn")
    with pytest.raises(Unmatched, match="not those of hgat"):
        weights.load(path, arch="hgat")
    with pytest.raises(Unmatched, match="--arch tree"):
        weights.load(saved(tmp_path / "z.pth", {"a": torch.ones(2)}))


def test_lightning_and_data_parallel_prefixes(tmp_path):
    for prefix in ("module.", "model.", "_orig_mod.", "module.net."):
        tree = {
            "state_dict": OrderedDict((prefix + k, v) for k, v in state().items()),
            "epoch": 2,
            "pytorch-lightning_version": "2.0",
        }
        torch.save(tree, tmp_path / "x.pth")
        ckpt = weights.load(tmp_path / "x.pth", config=CONFIG)
        assert ckpt.arch == "toy"
        weights.export(ckpt, tmp_path / "y.pth", overwrite=True)
        assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))


def test_trained_on_variables_are_exported(tmp_path):
    from dataclasses import replace

    ckpt = weights.load(saved(tmp_path / "x.pth", state()), config=CONFIG)
    moved = jax.tree.map(lambda p: p + 1, ckpt.variables)
    replace(ckpt, variables=moved).export(tmp_path / "y.pth")
    old, new = torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth")
    assert torch.equal(new["layers.0.weight"], old["layers.0.weight"] + 1)
    assert torch.equal(new["ball.isp_c"], old["ball.isp_c"])
    wrong = {**moved, "params": {**moved["params"], "emb": np.ones((3, 3), np.float32)}}
    with pytest.raises(ConversionError, match="params/emb has shape"):
        replace(ckpt, variables=wrong).export(tmp_path / "z.pth")
    wide = jax.tree.map(lambda p: np.asarray(p, np.float64), ckpt.variables)
    with pytest.raises(ConversionError, match=r"is float64; .* was float32 in the file"):
        replace(ckpt, variables=wide).export(tmp_path / "z.pth")
    assert not (tmp_path / "z.pth").exists()


def test_layouts_run_both_ways():
    x = draws.rng(0).standard_normal((2, 3, 4))
    for layout in (TRANSPOSE, permute(2, 0, 1), reshape(6, 4), chain(permute(1, 0, 2), reshape(3, 8))):
        if layout.name.startswith("axes (1") and "shape" in layout.name:
            continue
        assert np.array_equal(layout.inverse(layout.forward(x), x.shape), x), layout.name


def test_float64_is_not_rounded_without_x64(tmp_path):
    tree = state()
    path = saved(tmp_path / "x.pth", OrderedDict((k, v.double() if v.is_floating_point() else v) for k, v in tree.items()))
    with jax.enable_x64(False):
        ckpt = weights.load(path, config=CONFIG)
        assert ckpt.variables["params"]["emb"].dtype == np.float64
        assert "float64" in ckpt.report["note"]
        weights.export(ckpt, tmp_path / "y.pth")
    assert_deep_equal(torch.load(path), torch.load(tmp_path / "y.pth"))


FOREIGN = {
    "parametrized": ("layers.0.weight", ("parametrizations.weight.original0", "parametrizations.weight.original1"),
                     r"layers\.0\.parametrizations\.weight\.original0, .*remove_parametrizations\(module, 'weight'\)"),
    "weight norm": ("layers.0.weight", ("weight_g", "weight_v"), r"layers\.0\.weight_g, .*remove_weight_norm\(module, 'weight'\)"),
    "spectral norm": ("layers.0.weight", ("weight_orig", "weight_u"), r"weight_orig stand in the place of a tensor.*remove_spectral_norm"),
    "peft": ("layers.0.weight", ("weight", "lora_A.default.weight"), r"lora_A\.default\.weight .*merge_and_unload\(\) of peft"),
}  # fmt: skip


@pytest.mark.parametrize("arch", [None, "toy"])
@pytest.mark.parametrize("name", FOREIGN)
def test_what_stands_in_the_place_of_a_tensor_is_named(tmp_path, name, arch):
    key, parts, message = FOREIGN[name]
    tensors = state()
    old = tensors.pop(key)
    tensors |= {f"{key.rpartition('.')[0]}.{part}": old for part in parts}
    with pytest.raises(Unmatched, match=message) as caught:
        weights.load(saved(tmp_path / "x.pth", tensors), config=CONFIG, arch=arch)
    assert "emb" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("dropout", "x", "a number from 0 to 1"), ("dropout", 2.0, "a number from 0 to 1"), ("dropout", True, "a number from 0 to 1"),
        ("t", 0, "a positive number"), ("t", float("inf"), "a positive number"), ("r", float("nan"), "a finite number"),
        ("r", [2.0], "a finite number"), ("act", [], "a word"), ("bias", "yes", "true or false"), ("bias", 2, "true or false"),
        ("num_layers", 2.5, "a whole number"), ("dim", "4", "a whole number"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_domain_is_named(name: str, value: Any, wanted: str, tmp_path: Path):
    """What acts in training only, as a rate of dropout does, used to be taken as it was."""
    config = cases_mlp.FRAME.config("classes")
    torch.save(cases_mlp.FRAME.module(config).state_dict(), tmp_path / "x.pth")
    assert weights.load(tmp_path / "x.pth", config={**config, "bias": 1, "dropout": np.float32(0.5)}).arch == "mlp"
    with pytest.raises(Unmatched, match=re.escape(f"{name} is {value!r} according to the configuration; it has to be {wanted}")):
        weights.load(tmp_path / "x.pth", config={**config, name: value})


def test_constants_may_be_infinite_and_parameters_may_not(tmp_path):
    """A mask of attention, as a buffer of a state_dict; a mask that is trained, and numbers that have diverged, are no masks."""
    tree = {"emb": torch.ones(3, 2), "att.mask": torch.full((3, 3), float("-inf")).triu(1), "mask_token": torch.ones(2)}
    ckpt = weights.load(saved(tmp_path / "x.pth", tree), arch="tree")
    assert {e.key: e.role for e in ckpt.entries} == {"emb": "parameter", "att.mask": "constant", "mask_token": "parameter"}
    ckpt.save(tmp_path / "c.npz")
    weights.export(tmp_path / "c.npz", tmp_path / "back.pth")
    assert torch.load(tmp_path / "back.pth")["att.mask"].equal(tree["att.mask"])
    for wrong in (torch.tensor([0.3, float("inf")]), torch.tensor([0.0, float("nan")])):
        with pytest.raises(weights.Unmatched, match=r"'mask' contains (inf|nan) at \(1,\).*weights.constant\('mask'\) in a port"):
            weights.load(saved(tmp_path / "x.pth", {**tree, "mask": wrong}), arch="tree")
