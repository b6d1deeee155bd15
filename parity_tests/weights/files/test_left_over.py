"""Optimizers in tuples, damaged ones, and the parts of a file of which nothing is taken: all are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import weights
from parity_tests.weights.files.round_trips import Net, adam, back_and_forth
from parity_tests.weights.helpers import run
from weights import Unmatched


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_an_optimizer_in_tuples_is_found(tmp_path: Path, depth: int):
    net = Net()
    state = adam(net)
    for _ in range(depth):
        state = (state,)
    torch.save({"model": net.state_dict(), "optimizers": state}, tmp_path / "x.pth")
    assert back_and_forth(tmp_path / "x.pth").report["converted"]["optimizer"] == f"optimizers{'.0' * depth}"


def test_groups_may_be_a_tuple(tmp_path: Path):
    net = Net()
    state = adam(net)
    state["param_groups"] = tuple(state["param_groups"])
    torch.save({"model": net.state_dict(), "optimizer": state}, tmp_path / "x.pth")
    assert back_and_forth(tmp_path / "x.pth").report["converted"]["optimizer"] == "optimizer"


@pytest.mark.parametrize("state", [[], [1], None, torch.ones(2)])
def test_a_state_that_is_no_dictionary_is_damaged(tmp_path: Path, state):
    net = Net()
    torch.save({"model": net.state_dict(), "optimizer": adam(net) | {"state": state}}, tmp_path / "x.pth")
    with pytest.raises(Unmatched, match=r"optimizer's state is damaged: it is .*no dictionary by index.*--no-optimizer"):
        weights.load(tmp_path / "x.pth", arch="tree")
    assert back_and_forth(tmp_path / "x.pth", optimizer=False).report["not_converted"] == {"optimizer": "left out, as was asked"}


def test_every_part_is_named(tmp_path: Path, monkeypatch, capsys):
    net, odd = Net(), {3: torch.ones(2), ("a", 1): torch.ones(3), "lists": [torch.ones(3)], "_extra_state": {"a": 1}, "rate": 0.5,
                       "deep": {"w": torch.ones(2), "n": 4}}  # fmt: skip
    part = adam(net)
    part["param_groups"][0]["param_names"] = list(net.state_dict())
    tree = {
        "model": {**net.state_dict(), **odd},
        "training": {"optimizer": part | {"scaler": 2.0}, "ema": {"w": torch.ones(2)}, "rng": torch.ones(3), "runs": [1, {"a": 2}]},
        "config": {"dim": 3, "m": torch.ones(4), "dtype": torch.float32},
        "args": {"c": 3.0},
        "epoch": 2,
        "step": torch.tensor(7),
        "nothing": None,
    }
    torch.save(tree, tmp_path / "x.pth")
    named = ["model.3", "model.('a', 1)", "model.lists", "model._extra_state", "model.rate", "model.deep.n", "training.optimizer.scaler",
             "training.ema", "training.rng", "training.runs", "config.m", "config.dtype", "args", "step"]  # fmt: skip
    ckpt = back_and_forth(tmp_path / "x.pth")
    assert sorted(ckpt.report["not_converted"]) == sorted(named)
    assert sorted(ckpt.report["carried"]) == sorted(named)
    assert ckpt.config == {"dim": 3}
    assert ckpt.epoch == 2
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(monkeypatch, capsys, "convert", "x.pth", "--arch", "tree", "--out", "d")
    assert code == 0
    assert all(f"written again by export: {place} (" in out for place in named)
    code, _, err = run(monkeypatch, capsys, "convert", "x.pth", "--arch", "tree", "--out", "e", "--strict")
    assert code == 5
    assert "not everything would be converted: " in err
    assert "model.3 (" in err


def test_a_tree_of_modules_without_a_wrapper_is_taken_whole(tmp_path: Path):
    torch.save({"encoder": Net().state_dict(), "decoder": {"w": torch.ones(2), 5: torch.ones(1)}, "epoch": 3}, tmp_path / "x.pth")
    assert list(back_and_forth(tmp_path / "x.pth").report["not_converted"]) == ["decoder.5"]
