"""What stands in an optimizer beside `state` and `param_groups`, and tensors of its state that the file has elsewhere too, come back."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import weights
from parity_tests.weights.helpers import assert_deep_equal, run, trained
from port_jax.manifolds import Euclidean, PoincareBall

BESIDE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "master copies": lambda o: {"optimizer": {**o, "fp32": [torch.ones(3), torch.full((2,), 7.0)], "loss_scale": 3.0}},
    "a moment again": lambda o: {"optimizer": {**o, "last": o["state"][0]["exp_avg"]}, "mean": o["state"][0]["exp_avg_sq"]},
    "dictionaries of other classes": lambda o: {
        "optimizer": OrderedDict(param_groups=[OrderedDict(g) for g in o["param_groups"]], state=OrderedDict(o["state"]))
    },
    "the state again": lambda o: {"optimizer": o, "backup": o["state"], "groups": o["param_groups"]},
}
LEFT = {
    "master copies": {"optimizer.fp32", "optimizer.loss_scale"},
    "a moment again": {"optimizer.last", "mean"},
    "dictionaries of other classes": set(),
    "the state again": {"backup", "groups"},
}


@pytest.mark.parametrize("name", BESIDE)
def test_it_comes_back_and_is_reported(tmp_path: Path, monkeypatch, capsys, name: str):
    net, opt = trained()
    file = {"model": net.state_dict(), **BESIDE[name](opt.state_dict())}
    torch.save(file, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds={"emb": PoincareBall(0.7), "lin": Euclidean()})
    assert set(ckpt.report["not_converted"]) == LEFT[name]
    ckpt.save(tmp_path / "c.npz")
    (tmp_path / "x.pth").rename(tmp_path / "elsewhere.pth")
    weights.export(tmp_path / "c.npz", tmp_path / "y.pth")
    assert_deep_equal(file, torch.load(tmp_path / "y.pth", weights_only=True))
    said = ("--arch", "tree", "--manifold", "emb=PoincareBall:0.7", "--manifold", "lin=Euclidean", "--strict")
    code, _, err = run(monkeypatch, capsys, "convert", str(tmp_path / "elsewhere.pth"), *said, "--out", str(tmp_path / "d"))
    assert (code, all(place in err for place in LEFT[name])) == (5 if LEFT[name] else 0, True), err


def test_a_state_that_makes_its_entries(tmp_path: Path):
    net, opt = trained()
    file = {"model": net.state_dict(), "optimizer": {**opt.state_dict(), "state": defaultdict(dict, opt.state_dict()["state"])}}
    torch.save(file, tmp_path / "x.pth")
    weights.load(tmp_path / "x.pth", arch="tree", manifolds={"emb": PoincareBall(0.7), "lin": Euclidean()}).export(tmp_path / "y.pth")
    back = torch.load(tmp_path / "y.pth", weights_only=False)
    assert_deep_equal(file, back)
    assert back["optimizer"]["state"].default_factory is dict
