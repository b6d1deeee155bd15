"""Things that people save beside a model: none of them keeps the model from being read, and all come back as they were."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import os
import pathlib
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import weights
from parity_tests.weights.helpers import Call, assert_deep_equal, run, trained
from port_jax.manifolds import Euclidean, PoincareBall
from weights.errors import Refused
from weights.files.reader import read

MANIFOLDS = {"emb": PoincareBall, "lin": Euclidean()}


@dataclasses.dataclass
class Settings:
    rate: float = 0.01
    widths: tuple = (4, 3)
    where: pathlib.PurePath | None = None


class Phase(enum.Enum):
    TRAIN = 1


class Outer:
    class Inner(enum.Enum):
        ONE = "one"


class Listed(list):
    """A list with an attribute."""


class Table(dict):
    """A dict of a class of its own."""


def listed() -> Listed:
    own = Listed([1, "a"])
    own.note = "b"  # pyright: ignore[reportAttributeAccessIssue]
    return own


BYSTANDERS: dict[str, Any] = {
    "phase": Phase.TRAIN,
    "nested": Outer.Inner.ONE,
    "when": datetime.datetime(2024, 5, 6, 7, 8, tzinfo=datetime.UTC),
    "took": datetime.timedelta(seconds=5),
    "names": np.array(["u", "vw"]),
    "bytes": np.array([b"u", b"vw"]),
    "dates": np.array(["2024-05-06"], dtype="datetime64[D]"),
    "mixed": np.array([{"x": 1}, None], dtype=object),
    "settings": Settings(where=pathlib.PurePosixPath("/data")),
    "path": pathlib.PurePosixPath("/a/b"),
    "price": decimal.Decimal("1.5"),
    "recent": collections.deque([1.0, 0.5], maxlen=3),
    "list": listed(),
    "table": Table(a=1, b=[2]),
    "space": types.SimpleNamespace(a=1),
    "class": Settings,
    "by_phase": {Phase.TRAIN: 1},
    "type": np.dtype("float32"),
    "device": torch.device("cpu"),
}


def saved(path: Path, /, **beside: Any) -> None:
    net, optimizer = trained()
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict(), **beside}, path)


def test_what_stands_beside_a_model_is_carried(tmp_path):
    saved(tmp_path / "x.pth", **BYSTANDERS)
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds=MANIFOLDS)
    assert ckpt.opt_state is not None
    assert set(BYSTANDERS) <= set(ckpt.report["not_converted"])
    ckpt.save(tmp_path / "c")
    for form in (ckpt, tmp_path / "c"):
        weights.export(form, tmp_path / "back.pth", overwrite=True)
        before, after = (torch.load(tmp_path / name, weights_only=False) for name in ("x.pth", "back.pth"))
        assert_deep_equal(before["model"], after["model"])
        for name, value in BYSTANDERS.items():
            assert type(after[name]) is type(value), name
            assert np.array_equal(after[name], value), name
        assert after["list"].note == "b"
        assert after["recent"].maxlen == 3


def test_nothing_of_a_bystander_is_executed(tmp_path):
    """A class that does something when it is made, and when it is given its state."""

    saved(tmp_path / "x.pth", phase=Call(Loud, str(tmp_path / "mark")))
    assert read(tmp_path / "x.pth").root["phase"].args == (str(tmp_path / "mark"),)  # pyright: ignore[reportIndexIssue]
    assert not (tmp_path / "mark").exists()


class Loud:
    def __init__(self, path: str):
        Path(path).touch()


@pytest.mark.parametrize("function", [os.system, time.sleep, eval, torch.load, np.save, functools.reduce, Path.unlink])
def test_calls_of_functions_stay_refused_and_say_which_entry(tmp_path, function):
    saved(tmp_path / "x.pth", fine=Phase.TRAIN, dtype=torch.float32, odd=[{"a": (1, Call(function, "touch /nowhere"))}], more=1)
    with pytest.raises(Refused) as caught:
        read(tmp_path / "x.pth")
    assert "stands at 'odd'" in str(caught.value)
    assert ("remove that entry" in str(caught.value)) == (function in (time.sleep, np.save))


def test_an_optimizer_and_a_scheduler_that_were_pickled_as_objects(tmp_path, monkeypatch, capsys):
    net, optimizer = trained()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "a.pth")
    torch.save({"model": net.state_dict(), "optimizer": optimizer, "scheduler": scheduler}, tmp_path / "b.pth")
    plain, live = (weights.load(tmp_path / name, arch="tree", manifolds=MANIFOLDS) for name in ("a.pth", "b.pth"))
    assert live.report["optimizer"] == plain.report["optimizer"]
    assert "optimizer, scheduler" in live.report["note"]
    live.save(tmp_path / "c")
    weights.export(tmp_path / "c", tmp_path / "back.pth")
    assert_deep_equal(torch.load(tmp_path / "a.pth"), torch.load(tmp_path / "back.pth"))
    code, out, _ = run(monkeypatch, capsys, "inspect", tmp_path / "b.pth", "--arch", "tree", "--manifold", "emb=PoincareBall",
                       "--manifold", "lin=Euclidean", "--json")  # fmt: skip
    assert code == 0
    assert "state_dict" in json.loads(out)["note"]


def test_export_writes_what_the_name_says(tmp_path, monkeypatch, capsys):
    """A .safetensors of tensors alone; what has more than tensors is refused under that name, and so is .npz."""
    net, _ = trained()
    save_file(net.state_dict(), tmp_path / "x.safetensors")
    weights.load(tmp_path / "x.safetensors", arch="tree", manifolds=MANIFOLDS).save(tmp_path / "alone")
    weights.export(tmp_path / "alone", tmp_path / "back.safetensors")
    found = load_file(tmp_path / "back.safetensors")
    assert found.keys() == net.state_dict().keys()
    assert all(found[key].dtype == value.dtype and found[key].equal(value) for key, value in net.state_dict().items())
    saved(tmp_path / "y.pth", epoch=3)
    weights.load(tmp_path / "y.pth", arch="tree", manifolds=MANIFOLDS).save(tmp_path / "more")
    for name, what in (("b.safetensors", "this checkpoint has 'model', 'optimizer', 'epoch'"), ("b.npz", "torch reads no .npz file")):
        code, _, err = run(monkeypatch, capsys, "export", tmp_path / "more", tmp_path / name)
        assert code == 2
        assert f"{what}. Give a name that ends in .pth" in err
        assert not (tmp_path / name).exists()
