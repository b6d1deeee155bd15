"""HGAT's table: every preset, manifold and decoder from torch to flax and back, and what the shapes alone tell."""

from __future__ import annotations

import itertools

import geoopt
import numpy as np
import pytest
import torch

import weights
from parity_tests import draws, slow
from parity_tests.weights.helpers import assert_deep_equal, ties
from reference_torch.graphs.graph import Graph
from reference_torch.models.hgat import HGAT
from weights import Unmatched, Usage

PRESETS = ("htgn", "hat", "gil", "markov_blanket")
DECODERS = ((None, "linear", True), (3, "linear", False), (3, "hyperplanes", True))
CASES = [(p, m, DECODERS[n % 3]) for n, (p, m) in enumerate(itertools.product(PRESETS, ("PoincareBall", "Lorentz")))]


def saved(path, preset, manifold, classes, classifier, learnable, **extra):
    settings = {"in_features": 5, "features": [4, 3], "heads": 2, "preset": preset, "manifold": manifold, "curvature": 0.7,
                "learnable_curvature": learnable, "num_classes": classes, "classifier": classifier, **extra}  # fmt: skip
    draws.seed_torch(0)
    model = HGAT(**settings)
    opt = geoopt.optim.RiemannianAdam(model.parameters(), lr=1e-2)
    graph = Graph(torch.tensor([0, 1, 2, 3, 1]), torch.tensor([1, 2, 3, 0, 3]), 4)
    x = None if model.embedding is not None else torch.randn(4, 5)
    for _ in range(2):
        opt.zero_grad()
        out = model(x, graph)
        (out * torch.randn_like(out)).sum().backward()
        for p in model.parameters():  # the original's gradient is NaN where two points coincide
            p.grad = None if p.grad is None else p.grad.nan_to_num(0.1, 0.1, 0.1)
        opt.step()
    config = {**settings, "arch": "hgat", "optimizer": {"name": "RiemannianAdam"}}
    torch.save({"model": model.state_dict(), "optimizer": opt.state_dict(), "epoch": 2, "config": config}, path)
    return model, config


@pytest.mark.parametrize(("preset", "manifold", "decoder"), CASES)
def test_there_and_back(tmp_path, preset, manifold, decoder):
    model, _ = saved(tmp_path / "x.pth", preset, manifold, *decoder, num_nodes=4 if preset == "hat" else None)
    ckpt = weights.load(tmp_path / "x.pth")
    params = ckpt.variables["params"]
    assert np.array_equal(params["layers_0"]["linear"]["kernel"], model.layers[0].linear.weight.detach().numpy().T)
    weights.export(ckpt, tmp_path / "y.pth")
    back = torch.load(tmp_path / "y.pth", weights_only=True)
    assert_deep_equal(torch.load(tmp_path / "x.pth"), back)
    shared = decoder[1] == "hyperplanes" and manifold == "PoincareBall"
    assert ties(back["model"]) == ([["manifolds.2.isp_c", "decoder.ball.isp_c"]] if shared else [])
    fresh = HGAT(**dict(ckpt.settings.items()))
    fresh.load_state_dict(back["model"])


def test_curvature_is_the_files_and_shapes_tell_the_rest(tmp_path):
    _, config = saved(tmp_path / "x.pth", "htgn", "PoincareBall", 3, "linear", False)
    whole = torch.load(tmp_path / "x.pth")
    torch.save(whole["model"], tmp_path / "bare.pth")
    with pytest.raises(Usage, match=r"activation|distance|learnable"):
        weights.load(tmp_path / "bare.pth")
    few = {"activation": "relu"}
    ckpt = weights.load(tmp_path / "bare.pth", config=few)
    raw = float(whole["model"]["manifolds.0.isp_c"])
    assert ckpt.settings["curvature"] == [pytest.approx(np.log1p(np.exp(raw)), abs=0, rel=1e-15)] * 3
    assert ckpt.settings["curvature"][0] != 0.7
    inferred = {k: v for k, v in ckpt.settings.items() if k in config and k not in few and k != "curvature"}
    assert inferred == {k: config[k] for k in inferred}
    for change, message in (
        ({"heads": 4}, "heads is 4 according to config and 2 according to shape"),
        ({"manifold": "Lorentz"}, "manifold is Lorentz according to config and PoincareBall"),
        ({"curvature": 1.0}, "gives curvature"),
        ({"num_classes": 7}, "num_classes is 7"),
    ):
        with pytest.raises(Unmatched, match=message):
            weights.load(tmp_path / "bare.pth", config={**few, **change})


@pytest.mark.parametrize("change", slow.all_but({"drop", "transpose", "extra"}, ["drop", "rename", "reshape", "transpose", "extra"]))
def test_every_key_counts(tmp_path, change):
    saved(tmp_path / "x.pth", "gil", "Lorentz", 3, "linear", True)
    whole = torch.load(tmp_path / "x.pth")
    for key in list(whole["model"])[:: 2 if change == "transpose" else 4]:
        tensor = whole["model"][key]
        broken = dict(whole["model"])
        if change == "drop":
            del broken[key]
        elif change == "rename":
            broken[key.replace("layers", "layer").replace("decoder", "dec").replace("manifolds", "manifold")] = broken.pop(key)
        elif change == "reshape":
            broken[key] = torch.cat([tensor.reshape(1, -1), tensor.reshape(1, -1)])
        elif change == "transpose":
            if tensor.dim() != 2 or tensor.shape[0] == tensor.shape[1]:
                continue
            broken[key] = tensor.t().contiguous()
        else:
            broken[f"{key}_extra"] = tensor.clone()
        torch.save({**whole, "model": broken}, tmp_path / "y.pth")
        with pytest.raises((Unmatched, Usage)):
            weights.load(tmp_path / "y.pth", arch="hgat")
