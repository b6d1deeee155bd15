"""Models and optimizers wherever they are in a file, whatever wraps them; what is converted, and what is not, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import weights
from parity_tests.weights.files.round_trips import Net, adam, back_and_forth
from parity_tests.weights.helpers import run
from port_jax.manifolds import Euclidean
from weights.errors import Refused, Unreadable, Usage
from weights.files.pickles.standins import Known, Record
from weights.files.reader import read
from weights.files.sections import split
from weights.files.tensors import Storage, Tensor

FLAT = {"one.weight": Euclidean(), "two.weight": Euclidean()}


def test_an_array_for_a_scheduler_is_one(tmp_path):
    torch.save({"model": {"w": torch.ones(2)}, "scheduler": np.ones((2, 3))}, tmp_path / "x.pth")
    assert split(read(tmp_path / "x.pth").root).schedulers == (("scheduler",),)


@pytest.mark.parametrize("wrap", ["opt", "optim_state_dict", "training.optimizer", "optimizers.0", "state.adam"])
def test_an_optimizer_is_found_under_any_name(tmp_path: Path, wrap: str):
    net = Net()
    state: Any = adam(net)
    for name in reversed(wrap.split(".")):
        state = [state] if name.isdigit() else {name: state}
    torch.save({"model": net.state_dict(), **state}, tmp_path / "x.pth")
    ckpt = back_and_forth(tmp_path / "x.pth")
    assert ckpt.report["converted"] == {"model": "model", "optimizer": wrap}
    assert ckpt.report["not_converted"] == {}
    np.testing.assert_array_equal(ckpt.opt_state.mu["one"]["bias"], state_of(state, wrap)["state"][1]["exp_avg"].numpy())


def state_of(tree: Any, place: str) -> Any:
    for name in place.split("."):
        tree = tree[int(name) if name.isdigit() else name]
    return tree


def test_one_of_several_optimizers_is_chosen(tmp_path: Path, monkeypatch, capsys):
    net = Net()
    torch.save({"model": net.state_dict(), "opts": {"a": adam(net), "b": adam(net)}, "scaler": {"scale": 2.0}}, tmp_path / "x.pth")
    with pytest.raises(
        Usage, match=r"has 2 optimizers: opts\.a, opts\.b\. .* the model has 4\. Choose one with --optimizer-at .* or none with"
    ):
        weights.load(tmp_path / "x.pth", arch="tree")
    with pytest.raises(Usage, match=r"no optimizer at 'opts\.c'; it has opts\.a, opts\.b"):
        weights.load(tmp_path / "x.pth", arch="tree", optimizer_at="opts.c")
    ckpt = back_and_forth(tmp_path / "x.pth", optimizer_at="opts.b")
    assert ckpt.report["not_converted"] == {"opts.a": "left out, as was asked", "scaler": "JAX has no use for it"}
    assert back_and_forth(tmp_path / "x.pth", optimizer=False).opt_state is None
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(monkeypatch, capsys, "convert", "x.pth", "--arch", "tree", "--no-optimizer", "--out", "d")
    assert (code, "no optimizer state in JAX, as was asked" in out, "opts.a (left out, as was asked)" in out) == (0, True, True)
    code, _, err = run(monkeypatch, capsys, "convert", "x.pth", "--arch", "tree", "--optimizer-at", "opts.a", "--strict", "--out", "e")
    assert code == 5
    assert "not everything would be converted: opts.b (left out, as was asked), scaler" in err
    assert not (tmp_path / "e").exists()


def test_a_file_without_an_optimizer_says_so(tmp_path: Path, monkeypatch, capsys):
    torch.save(Net().state_dict(), tmp_path / "x.pth")
    monkeypatch.chdir(tmp_path)
    more = ("--strict", "--source", "https://example.org/x.pth", "--licence", "MIT")
    code, out, _ = run(monkeypatch, capsys, "convert", "x.pth", "--arch", "tree", "--out", "c", *more)
    assert (code, "no optimizer state in this file" in out, "converted: model (the file itself)" in out) == (0, True, True)
    report = weights.restore("c").report
    assert report["about"] == {"source": "https://example.org/x.pth", "licence": "MIT"}
    assert report["sha256"]["x.pth"] == __import__("hashlib").sha256((tmp_path / "x.pth").read_bytes()).hexdigest()


WRAPPERS = {
    "averaged": lambda key: f"module.{key}",
    "compiled within": lambda key: key.replace("one.", "one._orig_mod."),
    "parallel within": lambda key: key.replace("two.", "two.module."),
    "nested": lambda key: "module._orig_mod." + key.replace("one.", "one._checkpoint_wrapped_module._orig_mod."),
    "Lightning, compiled": lambda key: f"model._orig_mod.{key}",
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_anywhere_in_a_key(tmp_path: Path, name: str):
    net = Net()
    model = {WRAPPERS[name](key): tensor for key, tensor in net.state_dict().items()}
    if name == "averaged":
        model = {"n_averaged": torch.tensor(7), **model}
    torch.save({"model": model, "optimizer": adam(net)}, tmp_path / "x.pth")
    ckpt = back_and_forth(tmp_path / "x.pth", **({"prefix": "model."} if "Lightning" in name else {}))
    assert list(ckpt.report["not_converted"]) == (["model.n_averaged"] if name == "averaged" else [])
    assert {name: sorted(part) for name, part in ckpt.variables["params"].items()} == {part: ["bias", "weight"] for part in ("one", "two")}
    np.testing.assert_array_equal(ckpt.variables["params"]["two"]["bias"], net.two.bias.detach().numpy())


def test_a_module_that_is_called_module_stays(tmp_path: Path):
    torch.save({"one.module.w": torch.ones(2), "one.b": torch.ones(2), "two.module": torch.ones(1)}, tmp_path / "x.pth")
    assert sorted(back_and_forth(tmp_path / "x.pth").variables["params"]["one"]) == ["b", "module"]


def test_averaged_weights_beside_the_model_can_be_chosen(tmp_path: Path):
    net = Net()
    ema = {key: tensor + 1 for key, tensor in net.state_dict().items()}
    torch.save({"model": net.state_dict(), "more": {"ema": ema}}, tmp_path / "x.pth")
    assert back_and_forth(tmp_path / "x.pth").report["not_converted"] == {"more": "JAX has no use for it"}
    chosen = back_and_forth(tmp_path / "x.pth", section="more.ema")
    np.testing.assert_array_equal(chosen.variables["params"]["two"]["bias"], ema["two.bias"].numpy())
    with pytest.raises(Usage, match=r"nothing at 'ema'; it has model, more, more\.ema\. Correct --section"):
        weights.load(tmp_path / "x.pth", arch="tree", section="ema")
    with pytest.raises(Usage, match="no key begins with 'nets'"):
        weights.load(tmp_path / "x.pth", arch="tree", prefix="nets")


@pytest.mark.parametrize("choice", [{"section": "ema"}, {"prefix": "net."}, {"optimizer_at": "o.1"}])
def test_verify_reads_what_was_chosen(tmp_path: Path, choice: dict[str, str], monkeypatch, capsys):
    net = Net()
    state = {f"net.{key}": tensor for key, tensor in net.state_dict().items()}
    beside = {"critic.w": torch.ones(2)} if "prefix" in choice else {}
    optimizers = [adam(net), adam(net)] if "optimizer_at" in choice else [adam(net)]
    torch.save({"model": {**state, **beside}, "ema": {k: v + 1 for k, v in state.items()}, "o": optimizers}, tmp_path / "x.pth")
    monkeypatch.chdir(tmp_path)
    said = [part for name, value in choice.items() for part in (f"--{name.replace('_', '-')}", value)]
    assert run(monkeypatch, capsys, "convert", "x.pth", "--arch", "tree", *said, "--out", "c")[0] == 0
    assert ("model.critic.w" in weights.restore("c").report["not_converted"]) is ("prefix" in choice)
    code, out, _ = run(monkeypatch, capsys, "verify", "x.pth", "--arch", "tree", *said, "--converted", "c", "--level", "settings")
    assert (code, "taken from the conversion" in out) == (0, False)
    code, out, _ = run(monkeypatch, capsys, "verify", "x.pth", "--arch", "tree", "--converted", "c", "--level", "settings")
    assert code == 0, out
    assert said[0] in " ".join(out.split())


def test_inspect_shows_the_chosen_section(tmp_path: Path, monkeypatch, capsys):
    torch.save({"model": Net().state_dict(), "ema": {"w": torch.ones(5)}}, tmp_path / "x.pth")
    code, out, err = run(monkeypatch, capsys, "inspect", tmp_path / "x.pth", "--arch", "tree", "--section", "ema", "--json")
    assert code == 0, err
    assert json.loads(out)["bytes"] == 20
    assert [row["key"] for row in json.loads(out)["tensors"]] == ["w"]


def test_parameters_on_no_manifold_are_listed(tmp_path: Path, monkeypatch, capsys):
    """A point that was forgotten stands among them; without any manifold there is nothing to forget."""
    torch.save({"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}, tmp_path / "x.pth")
    monkeypatch.chdir(tmp_path)
    _, out, _ = run(monkeypatch, capsys, "convert", "x.pth", "--arch", "tree", "--manifold", "a=PoincareBall:0.7", "--out", "c")
    assert "on no manifold: b\n" in out
    _, out, _ = run(monkeypatch, capsys, "convert", "x.pth", "--arch", "tree", "--out", "c")
    assert "on no manifold" not in out


def test_sparse_tensors_types_and_bytes_are_carried(tmp_path: Path):
    """Beside the model, in it, and among hyper-parameters: torch.load reads them with weights_only=True."""
    eye = torch.eye(4)
    beside = {"adj": eye.to_sparse(), "csr": eye.to_sparse_csr(), "blob": bytearray(b"x"), "config": {"dtype": torch.float32, "lr": 0.1}}
    torch.save({"model": {**Net().state_dict(), "sparse": 2 * eye.to_sparse()}, **beside}, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree")
    ckpt.save(tmp_path / "c")
    assert ckpt.config == {"lr": 0.1}
    assert set(ckpt.report["not_converted"]) == {"adj", "csr", "blob", "model.sparse", "config.dtype"}
    for form in (ckpt, tmp_path / "c"):
        weights.export(form, tmp_path / "back.pth", overwrite=True)
        back = torch.load(tmp_path / "back.pth", weights_only=True)
        assert torch.equal(back["adj"].to_dense(), eye)
        assert torch.equal(back["csr"].to_dense(), eye)
        assert torch.equal(back["model"]["sparse"].to_dense(), 2 * eye)
        assert back["config"]["dtype"] is torch.float32
        assert back["blob"] == bytearray(b"x")


def test_quantized_tensors_are_named(tmp_path: Path):
    torch.save({"w": torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)}, tmp_path / "x.pth")
    with pytest.raises(Refused, match=r"a tensor is quantized.*Save the model before quantization"):
        weights.load(tmp_path / "x.pth", arch="tree")


def test_a_model_in_several_sections_is_not_left_over():
    w = Tensor(Storage("float32", 2, lambda: np.ones(2, np.float32)), "float32", (2,), (1,))
    root = {"encoder": {"w": w}, "decoder": {"lin": {"w": w}}, "epoch": 3, "other": {"a": 1}}
    parts = split(root)
    assert list(parts.tensors) == ["encoder.w", "decoder.lin.w"]
    assert parts.extras == ("other",)


def test_a_scheduler_of_any_name_is_one():
    w = Tensor(Storage("float32", 2, lambda: np.ones(2, np.float32)), "float32", (2,), (1,))
    root = {"model": {"w": w}, "swa_scheduler": {"last_epoch": 3, "_last_lr": [0.1], "swa_lrs": [0.05]}}
    parts = split(root)
    assert (parts.schedulers, parts.extras) == ((("swa_scheduler",),), ())


def test_an_object_that_is_no_model_is_named_by_its_class():
    with pytest.raises(Unreadable, match=r"an object of the class transformers[.]TrainingArguments, not a model"):
        split(Record(Known("transformers", "TrainingArguments")))
