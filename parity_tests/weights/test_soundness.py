"""A converted folder whose description somebody changed: named, before export or diff meet what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import weights
from parity_tests.slow import all_but
from parity_tests.weights.helpers import trained
from port_jax.manifolds import PoincareBall
from weights import ConversionError, Unreadable

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder, and its torch.json. The order of its keys is emb, seen, ball.isp_c, lin.weight, lin.bias."""
    folder = tmp_path_factory.mktemp("converted")
    net, opt = trained()
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict(), "beside": torch.ones(2)}, folder / "x.pth")
    weights.load(folder / "x.pth", arch="tree", manifolds={"emb": PoincareBall(0.7)}).save(folder / "c")
    return folder / "c", (folder / "c" / "torch.json").read_text()


def _tensor(found: dict[str, Any], key: str) -> list:
    """The description of a tensor of the file."""
    [model] = [pairs for kind, pairs, *_ in found["tree"]["nodes"] if kind == "ordered" and pairs and pairs[0][0] == "emb"]
    return found["tree"]["nodes"][dict(model)[key]["node"]]


def _group(found: dict[str, Any]) -> dict[str, Any]:
    """The description of the optimizer's only group, by name."""
    return dict(next(pairs for kind, pairs, *_ in found["tree"]["nodes"] if kind == "dict" and pairs and pairs[0][0] == "stabilize"))


def _rename(found: dict[str, Any], new: str) -> None:
    """Gives the kept numbers of the tensor beside the model to another one."""
    [old] = [name for name in found["arrays"] if name.startswith("kept/")]
    for table in ("arrays", "crc32"):
        found[table] = {new if name == old else name: value for name, value in found[table].items()}


def _one_more(found: dict[str, Any]) -> None:
    """Puts another tensor beside the model, of which there are no numbers."""
    nodes, storages = found["tree"]["nodes"], found["tree"]["storages"]
    storages.append(["float32", 2, "cpu", False])
    nodes.append(["tensor", len(storages) - 1, "float32", [2], [1], 0, False, "tensor", "", None])
    nodes[found["tree"]["root"]["node"]][1].append(["more", {"node": len(nodes) - 1}])


CHANGES: dict[str, tuple[Change, str]] = {
    "settings that are a list": (lambda d: d.__setitem__("settings", [1]), "its settings are .1."),
    "an epoch that is text": (lambda d: d.__setitem__("epoch", "3"), "its epoch is '3'"),
    "a key twice": (lambda d: d["keys"].append(d["keys"][0]), "the key 'emb' is there twice"),
    "a key that is gone": (lambda d: d["keys"].pop(2), "its constants are not those of its keys"),
    "a parameter that is gone": (lambda d: d["keys"].pop(3), "its parameters are not those of its keys"),
    "a role": (lambda d: d["keys"][0].__setitem__(1, "x"), "the entry of 'emb' is none"),
    "a list for a path": (lambda d: d["keys"][0].__setitem__(4, ["params/emb"]), "the entry of 'emb' is none|damaged"),
    "a size": (lambda d: d["keys"][1].__setitem__(2, [3, 1]), "'seen' is int64 .3,., not int64 .3, 1."),
    "a type": (lambda d: d["keys"][3].__setitem__(3, "float64"), "the key 'lin.weight' is not one of the file's tensors"),
    "a key tied to itself": (
        lambda d: d["keys"][1].__setitem__(slice(1, 6), ["tied", [3], "int64", None, "seen"]),
        "constants|repeats no tensor",
    ),
    "a tensor of another shape": (
        lambda d: _tensor(d, "lin.bias").__setitem__(3, [1]),
        "the key 'lin.bias' is not one of the file's tensors",
    ),
    "numbers of no tensor": (lambda d: _rename(d, "kept/99"), "numbers of a tensor that is not there"),
    "numbers of another tensor": (lambda d: _rename(d, "kept/0"), "'kept/0' is float32 .2,., not float32 .6, 3."),
    "a tensor without numbers": (_one_more, "numbers of the tensor .* are missing"),
    "the place of the optimizer": (
        lambda d: d.__setitem__("optimizer_at", ["model"]),
        "there is no optimizer at 'model'|has no optimizer at",
    ),
    "an index of the plan": (lambda d: d["plan"]["listed"][0].__setitem__(0, 7), "its plan lists other indices"),
    "a key of the plan": (lambda d: d["plan"]["keys"].__setitem__("0", "x"), "its plan names keys that are not there"),
    "a key of the plan twice": (lambda d: d["plan"]["keys"].__setitem__("0", "lin.bias"), "its plan names keys that are not there"),
    "a parameter of the plan": (lambda d: d["plan"]["still"].append("x"), "its plan names parameters that are not there"),
    "a number of the plan": (lambda d: d["plan"].__setitem__("per_step", 0.5), "its plan counts by what are no whole numbers|damaged"),
    "an index of the file": (lambda d: d["tree"]["nodes"][_group(d)["params"]["node"]][1].pop(), "its plan lists other indices"),
    "a manifold that is none": (lambda d: d["manifolds"]["tree"]["emb"].__setitem__("manifold", "Any"), "'Any' is not a manifold"),
    "a manifold that is a module": (lambda d: d["manifolds"]["tree"]["emb"].__setitem__("manifold", "base"), "'base' is not a manifold"),
}
KEPT = ("a key twice", "a tensor of another shape", "an index of the plan", "a manifold that is none", "a key tied to itself")


@pytest.mark.parametrize("name", all_but(KEPT, CHANGES))
def test_what_does_not_belong_together_is_named(name: str, converted: tuple[Path, str]):
    folder, text = converted
    change, message = CHANGES[name]
    description = json.loads(text)
    change(description)
    assert description != json.loads(text)
    (folder / "torch.json").write_text(json.dumps(description))
    with pytest.raises(ConversionError, match=message) as caught:
        weights.restore(folder)
    assert isinstance(caught.value, Unreadable) or name == "the place of the optimizer"
    (folder / "torch.json").write_text(text)
    np.testing.assert_array_equal(weights.restore(folder).constants["seen"], np.arange(3))
