"""The folder of `fit` becomes a torch file, embeddings, a picture and a table, for a converted model and for one that was made in JAX."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import weights
from parity_tests import draws
from parity_tests.weights.helpers import Net, assert_deep_equal, run, trained
from parity_tests.weights.made_in_jax import ADAM, CONFIG, born
from parity_tests.weights.optim.going_on import BALL, assert_close, flat, follow, go_on
from port_jax.optim import riemannian_adam
from port_jax.training import fit, gradient_step, restore, train_state
from reference_torch.models.hnn import HNN
from weights.errors import Unreadable, Usage
from weights.models import ARCHITECTURES

TREE = ("--arch", "tree", "--manifold", "emb=PoincareBall:0.7")


@pytest.fixture(scope="module")
def began(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A torch file, its conversion, and the folder of six more steps behind a clip, of which the fourth is the best."""
    folder = tmp_path_factory.mktemp("run")
    net, opt = trained(steps=3, dtype=torch.float64)
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict()}, folder / "x.pth")
    ckpt = weights.load(folder / "x.pth", arch="tree", manifolds=BALL)
    ckpt.save(folder / "c")

    def loss(params: Any, batch: Any, key: Any) -> Any:
        return sum(jnp.sum((leaf - 0.1) ** 2) for leaf in jax.tree.leaves(params))

    params, chain = ckpt.variables["params"], optax.chain(optax.clip_by_global_norm(1.0), ckpt.optimizer)
    state = train_state(params, chain, draws.key(0), opt_state=(optax.EmptyState(), ckpt.opt_state))
    seen = iter([5.0, 3.0, 1.0, 2.0])
    step, judged = gradient_step(loss, chain), {"monitor": "off", "mode": "min", "folder": folder / "run"}
    fit(step, state, steps=6, batch=jnp.zeros(()), every=2, evaluate=lambda p: {"off": next(seen)}, **judged)
    return SimpleNamespace(folder=folder, ckpt=ckpt, net=net)


@pytest.mark.parametrize("which", ["latest", "best", "4"])
def test_a_run_becomes_the_torch_file_that_it_began_with(began: SimpleNamespace, tmp_path: Path, monkeypatch, capsys, which: str):
    """With the state of that step; torch goes on from it as JAX does."""
    monkeypatch.chdir(began.folder)
    for like in ("c", "x.pth"):
        options = TREE if like == "x.pth" else ()
        code, out, err = run(
            monkeypatch, capsys, "export", "run", tmp_path / "y.pth", "--like", like, "--which", which, "--force", *options
        )
        assert code == 0, err
        assert f"step: {6 if which == 'latest' else 4}\n" in out
        saved = restore("run", int(which) if which.isdigit() else which)
        back = torch.load(tmp_path / "y.pth", weights_only=True)
        assert list(back) == ["model", "optimizer"]
        np.testing.assert_array_equal(back["model"]["emb"].numpy(), saved.state.params["emb"])
        np.testing.assert_array_equal(back["optimizer"]["state"][0]["exp_avg"].numpy(), saved.state.opt_state[1]["mu"]["emb"])
        assert int(back["optimizer"]["state"][0]["step"]) == 3 + int(saved.state.step)
    net = Net(dtype=torch.float64)
    net.load_state_dict(back["model"])
    opt = geoopt.optim.RiemannianAdam(net.parameters(), lr=1.0)
    opt.load_state_dict(back["optimizer"])
    for state in opt.state.values():
        state["step"] = int(state["step"])
    start = {k: v.clone().numpy() for k, v in net.state_dict().items()}
    theirs, gradients = go_on(net, opt)
    assert_close(follow(began.ckpt.after("run", saved.state.step.item()), gradients), theirs, start)


def test_embeddings_pictures_and_tables_of_a_run(began: SimpleNamespace, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(began.folder)
    for command, name in (("embed", "e.npy"), ("plot", "p.png")):
        more = ("--format", "npy") if command == "embed" else ()
        code, _, err = run(monkeypatch, capsys, command, "run", "--like", "c", "--which", "best", "--out", tmp_path / name, *more)
        assert code == 0, err
        assert (tmp_path / name).stat().st_size > 0
    np.testing.assert_array_equal(np.load(tmp_path / "e.npy"), restore("run", "best").state.params["emb"])
    code, out, _ = run(monkeypatch, capsys, "inspect", "run", "--like", "c", "--json")
    found = json.loads(out)
    assert (code, found["step"], found["best_step"], found["kept"], found["arch"]) == (0, 6, 4, [4, 6], "tree")
    assert {"name": "params/emb", "shape": [6, 3], "dtype": "float64"} in found["arrays"]
    assert found["record"]["off"] == 2.0
    code, out, _ = run(monkeypatch, capsys, "inspect", "run")
    assert (code, "params/lin/weight" in out, "kept: step 4, step 6" in out, "best: step 4" in out) == (0, True, True, True)


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "no model": (("export", "run", "y.pth"), "has the numbers of a model, and not what model it is. Give --like with"),
    "an architecture without settings": (("export", "run", "y.pth", "--arch", "hnn"), "the settings of the model are not given. Give"),
    "no step": (("embed", "run", "--like", "c", "--which", "3", "--out", "e"), "has no state of step 3, only of 4, 6"),
    "no word": (("embed", "run", "--like", "c", "--which", "last", "--out", "e"), "Give latest, best or the number of a step"),
    "no run": (("embed", "c", "--which", "best", "--out", "e"), "c: not the folder of a run of port_jax.training.fit. Omit --which"),
    "a run of itself": (("embed", "run", "--like", "run", "--out", "e"), "--like is the folder of a run itself"),
    "another model": (("export", "run", "y.pth", "--like", "other"), "params at lin/bias is float64 [2]; with these settings it is absent"),
    "its optimizer": (("export", "run", "y.pth", "--like", "sgd"), "contains no state of the checkpoint's optimizer, which has "),
    "convert": (("convert", "run", "--out", "d"), "the folder of a run of port_jax.training.fit. Export it first: hyperport export"),
    "settings of a conversion": (("export", "c", "y.pth", "--arch", "tree"), "what convert wrote already contains all that. Omit --arch"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_missing_is_said(began: SimpleNamespace, monkeypatch, capsys, name: str):
    monkeypatch.chdir(began.folder)
    if name == "another model" and not Path("other").exists():
        torch.save({"emb": torch.zeros(6, 3).double()}, "other.pth")
        weights.load("other.pth", arch="tree").save("other")
    if name == "its optimizer" and not Path("sgd").exists():
        net, opt = trained(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), dtype=torch.float64)
        torch.save({"model": net.state_dict(), "optimizer": opt.state_dict()}, "sgd.pth")
        weights.load("sgd.pth", arch="tree", manifolds=BALL).save("sgd")
    arguments, message = REFUSED[name]
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert (code in (2, 3), message in err) == (True, True), err
    assert not any(Path(file).exists() for file in ("y.pth", "e", "d"))


def test_the_parameters_alone_keep_the_files_optimizer(began: SimpleNamespace, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(began.folder)
    code, out, err = run(monkeypatch, capsys, "export", "run", tmp_path / "y.pth", "--like", "c", "--no-optimizer")
    assert (code, "left out: opt_state/1/" in out) == (0, True), err
    old, new = torch.load("x.pth"), torch.load(tmp_path / "y.pth")
    assert_deep_equal(old["optimizer"], new["optimizer"])
    assert not torch.equal(old["model"]["emb"], new["model"]["emb"])
    with pytest.raises(Unreadable, match="not the folder of a run"):
        began.ckpt.after("c")
    with pytest.raises(Usage, match="params at emb is float64"):
        began.ckpt.__class__(**{**vars(began.ckpt), "variables": {"params": {"emb": np.zeros((6, 2))}}}).after("run")


def test_a_model_made_in_jax_is_exported_from_its_run(tmp_path: Path, monkeypatch, capsys):
    table = ARCHITECTURES["hnn"].build(CONFIG)
    params, chain = born("hnn", CONFIG), riemannian_adam(0.02, weight_decay=0.01, manifolds=table.manifolds)

    def loss(params: Any, batch: Any, key: Any) -> Any:
        return sum(jnp.sum((leaf - 0.1) ** 2) for leaf in jax.tree.leaves(params))

    fit(
        gradient_step(loss, chain), train_state(params, chain, draws.key(0)), steps=3, batch=jnp.zeros(()), every=3, folder=tmp_path / "run"
    )
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text(json.dumps(CONFIG))
    Path("adam.json").write_text(json.dumps(ADAM))
    said = ("--arch", "hnn", "--config", "config.json")
    code, out, err = run(monkeypatch, capsys, "export", "run", "y.pth", *said, "--made-with", "adam.json")
    assert (code, "left out" in out) == (0, False), err
    module = HNN(**{name: value for name, value in CONFIG.items() if name != "model"}).double()
    module.load_state_dict(torch.load("y.pth", weights_only=True)["model"])
    state, back = restore("run").state, weights.load("y.pth", config=CONFIG)
    jax.tree.map(np.testing.assert_array_equal, back.variables["params"], state.params)
    assert {k: np.asarray(v).tolist() for k, v in flat(back.opt_state.mu).items()} == {
        k: v.tolist() for k, v in flat(state.opt_state["mu"]).items()
    }
    assert int(back.opt_state.step) == 3
    code, out, err = run(monkeypatch, capsys, "export", "run", "z.pth", *said)
    assert (code, "left out: opt_state/" in out, sorted(torch.load("z.pth"))) == (0, True, ["model"]), err


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_file_without_an_optimizer_takes_that_of_its_run(began: SimpleNamespace, tmp_path: Path, monkeypatch, capsys, wrapped: bool):
    monkeypatch.chdir(began.folder)
    model, like = began.net.state_dict(), tmp_path / "bare.pth"
    torch.save({"model": model} if wrapped else model, like)
    said = ("export", "run", tmp_path / "y.pth", "--force", "--like")
    code, out, err = run(monkeypatch, capsys, *said, like, *TREE)
    assert (code, "optimizer" in torch.load(tmp_path / "y.pth")) == (0, False), err
    assert "left out because: the checkpoint that the run began with has no optimizer; --made-with optimizer.json" in out
    named = tmp_path / "adam.json"
    named.write_text(json.dumps({"name": "RiemannianAdam", "lr": 0.01}))
    code, out, err = run(monkeypatch, capsys, *said, like, *TREE, "--made-with", named)
    assert (code, "opt_state/1" in out) == (0, False), err
    back, state = torch.load(tmp_path / "y.pth", weights_only=True), restore("run").state
    assert list(back) == ["model", "optimizer"]
    opt = geoopt.optim.RiemannianAdam([torch.nn.Parameter(back["model"][key]) for key in ("emb", "lin.weight", "lin.bias")], lr=1.0)
    opt.load_state_dict(back["optimizer"])
    np.testing.assert_array_equal(back["optimizer"]["state"][0]["exp_avg"].numpy(), state.opt_state[1]["mu"]["emb"])
    assert [int(entry["step"]) for entry in back["optimizer"]["state"].values()] == [9, 9, 9]
    code, _, err = run(monkeypatch, capsys, *said, "c", "--made-with", named)
    assert (code, "the file has an optimizer (optimizer), and its conversion goes on with it. Omit --made-with" in err) == (2, True), err
