"""Optimizers of repositories in files: recognised, continued in the layout that the parameters have here, written back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import weights
from parity_tests import draws
from parity_tests.optim.from_torch import loops
from parity_tests.weights.helpers import assert_deep_equal, run, trained
from parity_tests.weights.optim.going_on import BALL, assert_close, load
from parity_tests.weights.toy import TOY
from port_jax.manifolds import PoincareBall
from weights import Unmatched
from weights.models import ARCHITECTURES
from weights.proof.diff import compare

C = 0.7
SHAPES = {"emb": (4, 5), "att": (1, 2, 5), "layers.0.weight": (5, 5), "layers.0.bias": (5,)}
STEPS = 5


def toy(make, steps=STEPS, **settings):
    """A file of the toy architecture: its parameters, the loop that trained them, the file's tree."""
    rng = draws.rng(0)
    params = {key: torch.tensor(0.2 * rng.normal(size=shape)) for key, shape in SHAPES.items()}
    ball = geoopt.PoincareBall(torch.tensor(C, dtype=torch.float64))
    loop = make(list(params.values()), [ball, None, None, None], **settings)
    advance(loop, 0, steps)
    tree = {"model": params, "optimizer": loop.state_dict(), "args": {"scale": 1.0, "curvature": C, "optimizer": "RiemannianAdam"}}
    return params, loop, tree


def gradients(step):
    rng = draws.rng(50 + step)
    return {key: rng.normal(size=shape) for key, shape in SHAPES.items()}


def advance(loop, start, steps):
    for step in range(start, start + steps):
        loop.step([torch.tensor(g) for g in gradients(step).values()])


def here(gradients):
    """The gradients in the layout of the flax parameters."""
    arrays = {key: jnp.asarray(g) for key, g in gradients.items()}
    dense = {"kernel": arrays["layers.0.weight"].T, "bias": arrays["layers.0.bias"]}
    return {"emb": arrays["emb"], "att": arrays["att"].reshape(2, 5), "dense_0": dense}


def continued(ckpt, start, steps):
    params, state = ckpt.variables["params"], ckpt.opt_state
    move = jax.jit(ckpt.optimizer.update)
    for step in range(start, start + steps):
        updates, state = move(here(gradients(step)), state, params)
        params = optax.apply_updates(params, updates)
    return replace(ckpt, variables={**ckpt.variables, "params": params}, opt_state=state)


CASES = {
    "hgcn.RiemannianAdam": (loops.HGCN, {}, True),
    "hybonet.RiemannianAdam": (loops.Hybonet, {"stabilize": 2, "amsgrad": True}, True),
    "RiemannianAdam": (loops.OldGeoopt, {"stabilize": 12}, "RiemannianAdam"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_dialect_goes_on_and_comes_back(tmp_path, monkeypatch, name):
    monkeypatch.setitem(ARCHITECTURES, "toy", TOY)
    make, settings, said = CASES[name]
    params, loop, tree = toy(make, **settings)
    torch.save(tree, tmp_path / "x.pth")
    weights.load(tmp_path / "x.pth", optimizer=said).save(tmp_path / "out")
    ckpt = weights.restore(tmp_path / "out")
    assert ckpt.report["optimizer"]["name"] == name
    assert ckpt.plan.axes == ({"dense_0/kernel": 0} if make is loops.HGCN else {})
    weights.export(ckpt, tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))
    start = {key: p.numpy().copy() for key, p in params.items()}
    later = continued(ckpt, STEPS, 10)
    advance(loop, STEPS, 10)
    later.export(tmp_path / "z.pth")
    back = torch.load(tmp_path / "z.pth")
    ours = {key: value.numpy() for key, value in back["model"].items()}
    assert_close(ours, {key: p.numpy() for key, p in params.items()}, start)
    theirs = loop.state_dict()
    assert back["optimizer"]["param_groups"][0]["step"] == theirs["param_groups"][0]["step"]
    for index, state in theirs["state"].items():
        assert back["optimizer"]["state"][index]["step"] == 0
        for key in state.keys() - {"step"}:
            np.testing.assert_allclose(back["optimizer"]["state"][index][key], state[key], rtol=1e-9, atol=1e-14)


def test_what_a_file_leaves_open_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "toy", TOY)
    _, _, tree = toy(loops.Hybonet, steps=8)
    torch.save(tree, tmp_path / "x.pth")
    with pytest.raises(Unmatched, match=r"pass optimizer='hybonet\.RiemannianAdam' or 'RiemannianAdam'"):
        weights.load(tmp_path / "x.pth")
    for given in ({"optimizer": "hybonet.RiemannianAdam"}, {"config": {"optimizer": "hybonet.RiemannianAdam"}}):
        assert weights.load(tmp_path / "x.pth", **given).plan.table == "hybonet.RiemannianAdam"
    with pytest.raises(Unmatched, match=r"optimizer 'Lion' is not translated; known are RiemannianAdam, hgcn"):
        weights.load(tmp_path / "x.pth", optimizer="Lion")
    tree["args"]["optimizer"] = "Adam"
    torch.save(tree, tmp_path / "x.pth")
    with pytest.raises(
        Unmatched, match=r"configuration's optimizer is Adam, the file's settings are those of \w+.RiemannianAdam|pass optim"
    ):
        weights.load(tmp_path / "x.pth")


def test_a_fresh_state_is_that_of_the_models_code(tmp_path, monkeypatch):
    """No number tells before the first step; after it the counts and zeros are there that HGCN's loop has."""
    monkeypatch.setitem(ARCHITECTURES, "toy", replace(TOY, code="hgcn"))
    params, loop, tree = toy(loops.HGCN, steps=0)
    torch.save(tree, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth")
    assert ckpt.plan.table == "hgcn.RiemannianAdam"
    ckpt.export(tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))
    start = {key: p.numpy().copy() for key, p in params.items()}
    continued(ckpt, 0, 3).export(tmp_path / "z.pth")
    advance(loop, 0, 3)
    back, theirs = torch.load(tmp_path / "z.pth"), loop.state_dict()
    assert_close({key: value.numpy() for key, value in back["model"].items()}, {key: p.numpy() for key, p in params.items()}, start)
    assert back["optimizer"]["param_groups"][0]["step"] == theirs["param_groups"][0]["step"]
    assert {index: entry["step"] for index, entry in back["optimizer"]["state"].items()} == dict.fromkeys(range(4), 0)


def test_the_options_of_the_shell(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ARCHITECTURES, "toy", TOY)
    _, _, tree = toy(loops.Hybonet, steps=8)
    scheduler = {"step_size": 3, "gamma": 0.5, "base_lrs": [0.03], "last_epoch": 3, "_step_count": 4, "_last_lr": [0.015]}
    tree["optimizer"]["param_groups"][0]["lr"] = 0.015
    torch.save({**tree, "scheduler": scheduler}, tmp_path / "x.pth")
    code, _, errors = run(monkeypatch, capsys, "convert", tmp_path / "x.pth", "--out", tmp_path / "out")
    assert code == Unmatched.exit_code
    assert "--optimizer-class" in errors
    given = ("--optimizer-class", "hybonet.RiemannianAdam", "--updates-per-step", "2")
    code, _, _ = run(monkeypatch, capsys, "convert", tmp_path / "x.pth", "--out", tmp_path / "out", *given)
    assert code == 0
    told = weights.restore(tmp_path / "out").report["optimizer"]
    assert told["name"] == "hybonet.RiemannianAdam"
    assert told["scheduler"].items() >= {"name": "StepLR", "steps": 3, "updates_per_step": 2, "rates_follow": True}.items()
    assert "2 updates after the end of 3 steps of 2" in told["scheduler"]["assumed"]


def test_moments_that_begin_with_zeros_are_written_anew(tmp_path):
    """A column that never has a gradient keeps its moments, and its neighbours do not."""
    net, opt = trained(lambda p: torch.optim.Adam(p, lr=1e-2), steps=0, dtype=torch.float64)
    for step in range(3):
        opt.zero_grad()
        draw = draws.rng(step).normal(size=(2, 3))
        draw[:, 0] = 0
        net.lin.weight.grad = torch.tensor(draw)
        opt.step()
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict()}, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree")
    grads = jax.tree.map(jnp.zeros_like, ckpt.variables["params"])
    grads["lin"]["weight"] = jnp.ones((2, 3)).at[:, 0].set(0)
    _, state = jax.jit(ckpt.optimizer.update)(grads, ckpt.opt_state, ckpt.variables["params"])
    replace(ckpt, opt_state=state).export(tmp_path / "y.pth")
    index = [k for k, _ in net.named_parameters()].index("lin.weight")
    before, after = (torch.load(tmp_path / f"{n}.pth")["optimizer"]["state"][index]["exp_avg_sq"] for n in "xy")
    assert torch.equal(before[:, 0], after[:, 0])
    np.testing.assert_allclose(after[:, 1:], 0.999 * before[:, 1:] + 0.001, rtol=1e-12)


def test_a_search_and_rows_come_back(tmp_path):
    """Optimizers that are no plain optax transformations."""
    net, _ = trained(dtype=torch.float64)
    opt = geoopt.optim.RiemannianLineSearch([p for p in net.parameters() if p.requires_grad], cg_method="pr")
    goal = torch.zeros(6, 2, dtype=torch.float64)

    def closure():
        opt.zero_grad()
        loss = net.loss(goal)
        loss.backward()
        return loss.item()

    for _ in range(2):
        opt.step(closure)
    names = [[k for k, p in net.named_parameters() if p.requires_grad]]
    ckpt = load(tmp_path, net, {**opt.state_dict()}, groups=names)
    assert int(ckpt.opt_state.count) == 2
    ckpt.save(tmp_path / "search")
    weights.export(weights.restore(tmp_path / "search"), tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))
    table = geoopt.ManifoldParameter(net.emb.data.clone(), manifold=net.ball)
    rows = geoopt.optim.SparseRiemannianAdam([table], lr=0.1)
    table.grad = torch.sparse_coo_tensor([[1, 4]], torch.ones(2, 3, dtype=torch.float64), (6, 3))
    rows.step()
    torch.save({"model": {"emb": table.data}, "optimizer": rows.state_dict()}, tmp_path / "x.pth")
    weights.load(tmp_path / "x.pth", arch="tree", manifolds=BALL).save(tmp_path / "out")
    ckpt = weights.restore(tmp_path / "out")
    assert ckpt.plan.table == "SparseRiemannianAdam"
    assert {int(n) for n in jax.tree.leaves(ckpt.opt_state.count)} == {1}
    weights.export(ckpt, tmp_path / "y.pth", overwrite=True)
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))


def test_a_state_of_other_parameters_is_refused(tmp_path):
    net, opt = trained(dtype=torch.float64)
    other = opt.state_dict()
    other["state"][0], other["state"][3] = other["state"][3], other["state"][0]
    with pytest.raises(Unmatched, match=r"exp_avg at index 0 has shape \(2,\); 'emb' has \(6, 3\).*give groups"):
        load(tmp_path, net, other)
    other = opt.state_dict()
    other["state"][7] = other["state"].pop(0)
    with pytest.raises(Unmatched, match="state for index 7, which is in no group"):
        load(tmp_path, net, other)
    other = opt.state_dict()
    other["param_groups"][0]["momentum_decay"] = other["param_groups"][0].pop("amsgrad")
    with pytest.raises(Unmatched, match=r"NAdam, which is not translated; known are RiemannianAdam.*without its state: --no-optimizer"):
        load(tmp_path, net, other)


def test_float32_files(tmp_path):
    net, opt = trained(lambda p: geoopt.optim.RiemannianAdam(p, lr=1e-2, amsgrad=True))
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict()}, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds={"emb": PoincareBall(float(net.ball.c.detach()))})
    assert {str(x.dtype) for x in jax.tree.leaves(ckpt.opt_state)} == {"int32", "float32"}
    weights.export(ckpt, tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))


@pytest.mark.parametrize("state", [None, "x", 3, [1], True])
def test_a_state_that_is_no_dictionary_is_named(state: object, tmp_path: Path):
    """And left out with the optimizer, if that is asked."""
    net, opt = trained()
    section = opt.state_dict()
    section["state"][2] = state
    torch.save({"model": net.state_dict(), "optimizer": section}, tmp_path / "x.pth")
    given = {"arch": "tree", "manifolds": {"emb": PoincareBall(0.7)}}
    with pytest.raises(Unmatched, match="the optimizer's state of index 2 is "):
        weights.load(tmp_path / "x.pth", **given)
    assert weights.load(tmp_path / "x.pth", optimizer=False, **given).opt_state is None
    assert all(row.equal for row in compare(tmp_path / "x.pth", tmp_path / "x.pth"))
