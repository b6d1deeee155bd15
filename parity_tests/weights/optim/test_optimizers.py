"""Optimizer state in every dialect: read, continued like the original, and written back bit by bit."""

from __future__ import annotations

import copy

import geoopt
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import weights
from parity_tests import draws
from parity_tests.weights.helpers import Net, assert_deep_equal, trained
from parity_tests.weights.optim.going_on import STEPS, assert_close, follow, go_on, load
from parity_tests.weights.toy import TOY
from port_jax.manifolds import Euclidean, PoincareBall
from weights import Unmatched, Usage
from weights.models import ARCHITECTURES

OPTIMIZERS = {
    "RiemannianAdam": lambda p: geoopt.optim.RiemannianAdam(p, lr=1e-2, betas=(0.8, 0.97), weight_decay=0.01),
    "amsgrad": lambda p: geoopt.optim.RiemannianAdam(p, lr=1e-2, amsgrad=True, stabilize=2),
    "RiemannianSGD": lambda p: geoopt.optim.RiemannianSGD(p, lr=1e-2, momentum=0.9, weight_decay=0.01, nesterov=True, stabilize=3),
    "plain RiemannianSGD": lambda p: geoopt.optim.RiemannianSGD(p, lr=1e-2),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1, nesterov=True),
    "plain SGD": lambda p: torch.optim.SGD(p, lr=1e-2),
    "SGD with dampening, ascending": lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, dampening=0.3, maximize=True),
    "Adam ascending": lambda p: torch.optim.Adam(p, lr=1e-3, maximize=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, weight_decay=0.1),
    "RMSprop centered": lambda p: torch.optim.RMSprop(p, lr=1e-3, centered=True, momentum=0.5),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("begun", [3, 0])
def test_goes_on_as_torch_does_and_comes_back(tmp_path, name, begun):
    net, opt = trained(OPTIMIZERS[name], steps=begun, dtype=torch.float64)
    ckpt = load(tmp_path, net, opt)
    weights.export(ckpt, tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth", weights_only=True))
    start = {k: v.clone().numpy() for k, v in net.state_dict().items()}
    for group in opt.state.values():
        if isinstance(group.get("step"), torch.Tensor) and isinstance(opt, geoopt.optim.RiemannianAdam):
            group["step"] = int(group["step"])
    theirs, gradients = go_on(net, opt)
    assert_close(follow(ckpt, gradients), theirs, start)


def test_a_reloaded_count_is_a_float_tensor_and_comes_back_as_one(tmp_path):
    net, opt = trained(dtype=torch.float64)
    again = geoopt.optim.RiemannianAdam(net.parameters(), lr=1.0)
    again.load_state_dict(opt.state_dict())
    assert torch.is_tensor(again.state_dict()["state"][0]["step"])
    ckpt = load(tmp_path, net, again)
    weights.export(ckpt, tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))


def test_counts_in_the_group(tmp_path):
    """geoopt 0.4.1 and 0.5.0: the group counts, for all its parameters."""
    net, opt = trained(dtype=torch.float64)
    old = copy.deepcopy(opt.state_dict())
    for state in old["state"].values():
        assert state.pop("step") == 3
    old["param_groups"][0]["step"] = 3
    ckpt = load(tmp_path, net, old)
    assert ckpt.report["optimizer"]["counts"] == ["group"]
    weights.export(ckpt, tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))
    start = {k: v.clone().numpy() for k, v in net.state_dict().items()}
    theirs, gradients = go_on(net, opt)
    assert_close(follow(ckpt, gradients), theirs, start)


def double_counted(params, states, group, gradients):
    """geoopt until 0.3.1 on flat parameters: the group's counter goes up before and after each one's correction, eps uncorrected."""
    b1, b2 = group["betas"]
    for step in gradients:
        for i, g in enumerate(step):
            m, v = states[i]
            m[...] = b1 * m + (1 - b1) * g
            v[...] = b2 * v + (1 - b2) * g * g
            group["step"] += 1
            t = group["step"]
            params[i] -= group["lr"] * (1 - b2**t) ** 0.5 / (1 - b1**t) * m / (np.sqrt(v) + group["eps"])
            group["step"] += 1


def test_counts_doubled_in_the_group(tmp_path):
    """geoopt until 0.3.1: 18 after 3 steps of 3 parameters; the next bias corrections follow the inflated count."""
    rng = draws.rng(0)
    shapes = [(3,), (2, 2), (4,)]
    params = [rng.standard_normal(s) for s in shapes]
    states = [(np.zeros(s), np.zeros(s)) for s in shapes]
    group = {
        "lr": 1e-2,
        "betas": (0.9, 0.99),
        "eps": 1e-3,
        "weight_decay": 0,
        "amsgrad": False,
        "stabilize": None,
        "params": [0, 1, 2],
        "step": 0,
    }
    gradients = [[rng.standard_normal(s) for s in shapes] for _ in range(3 + STEPS)]
    double_counted(params, states, group, gradients[:3])
    assert group["step"] == 18

    def section():
        state = {i: {"step": 0, "exp_avg": torch.tensor(m), "exp_avg_sq": torch.tensor(v)} for i, (m, v) in enumerate(states)}
        return {"state": state, "param_groups": [dict(group)]}

    tree = {"model": {f"p{i}": torch.tensor(p) for i, p in enumerate(params)}, "optimizer": section()}
    torch.save(tree, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds={"p0": Euclidean()}, optimizer="RiemannianAdam")
    assert ckpt.report["optimizer"]["counts"] == ["double"]
    weights.export(ckpt, tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))
    start = {f"p{i}": p.copy() for i, p in enumerate(params)}
    params_now, state = ckpt.variables["params"], ckpt.opt_state
    for draw in gradients[3:]:
        updates, state = ckpt.optimizer.update({f"p{i}": jnp.asarray(g) for i, g in enumerate(draw)}, state, params_now)
        params_now = optax.apply_updates(params_now, updates)
    double_counted(params, states, group, gradients[3:])
    assert_close(params_now, {f"p{i}": p for i, p in enumerate(params)}, start)
    from dataclasses import replace

    replace(ckpt, variables={"params": params_now}, opt_state=state).export(tmp_path / "z.pth")
    assert torch.load(tmp_path / "z.pth")["optimizer"]["param_groups"][0]["step"] == group["step"]
    broken = copy.deepcopy(tree)
    broken["optimizer"]["param_groups"][0]["step"] = 17
    torch.save(broken, tmp_path / "x.pth")
    with pytest.raises(Unmatched, match="17, not a multiple of 6"):
        weights.load(tmp_path / "x.pth", arch="tree", manifolds={"p0": Euclidean()}, optimizer="RiemannianAdam")


def test_second_moments_of_points_are_one_number(tmp_path):
    net, opt = trained(dtype=torch.float64)
    ckpt = load(tmp_path, net, opt)
    assert ckpt.opt_state.nu["emb"].shape == (6, 1)
    assert ckpt.opt_state.nu["lin"]["weight"].shape == (2, 3)
    uneven = copy.deepcopy(opt.state_dict())
    uneven["state"][0]["exp_avg_sq"][:, 1] *= 1 + 3e-16  # torch's vector lanes and its scalar tail round differently
    weights.export(load(tmp_path, net, uneven), tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))
    broken = copy.deepcopy(opt.state_dict())
    broken["state"][0]["exp_avg_sq"][0, 1] += 1
    with pytest.raises(Unmatched, match="differs along a point's axes"):
        load(tmp_path, net, broken)


def test_frozen_parameters_stand_still(tmp_path):
    net, opt = trained(dtype=torch.float64)
    section = opt.state_dict()
    index = [k for k, _ in net.named_parameters()].index("lin.bias")
    del section["state"][index]
    ckpt = load(tmp_path, net, section)
    assert ckpt.report["optimizer"]["without_state"] == ["lin/bias"]
    moved = follow(ckpt, [{k: np.ones(p.shape) for k, p in net.named_parameters()}])
    assert np.array_equal(moved["lin.bias"], net.lin.bias.detach().numpy())
    assert not np.array_equal(moved["lin.weight"], net.lin.weight.detach().numpy())


def test_param_names_and_groups(tmp_path):
    net = Net(dtype=torch.float64)
    named = dict(net.named_parameters())
    groups = [
        {"params": [("lin.bias", named["lin.bias"]), ("emb", named["emb"])], "lr": 0.1},
        {"params": [("lin.weight", named["lin.weight"])], "weight_decay": 0.1},
    ]
    opt = geoopt.optim.RiemannianAdam(groups, lr=1e-2)
    go_on(net, opt)
    ckpt = load(tmp_path, net, opt)
    assert ckpt.plan.keys == {0: "lin.bias", 1: "emb", 2: "lin.weight"}
    weights.export(ckpt, tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))
    start = {k: v.clone().numpy() for k, v in net.state_dict().items()}
    theirs, gradients = go_on(net, opt)
    ours = follow(ckpt, gradients)
    assert_close({k: ours[k] for k in ("emb", "lin.weight", "lin.bias")}, theirs, start)
    nameless = opt.state_dict()
    for group in nameless["param_groups"]:
        del group["param_names"]
    with pytest.raises(Usage, match="2 groups of 2, 1 parameters and no names"):
        load(tmp_path, net, nameless)
    assert load(tmp_path, net, nameless, groups=[["lin.bias", "emb"], ["lin.w*"]]).plan.keys == ckpt.plan.keys
    with pytest.raises(Unmatched, match="has shape"):
        load(tmp_path, net, nameless, groups=[["lin.weight", "emb"], ["lin.bias"]])


def test_an_architecture_knows_its_groups(tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "toy", TOY)
    draws.seed_torch(0)
    parameters = {"emb": (4, 5), "att": (1, 2, 5), "layers.0.weight": (5, 5), "layers.0.bias": (5,)}
    parameters = {key: torch.nn.Parameter(0.1 * torch.randn(shape)) for key, shape in parameters.items()}
    opt = torch.optim.Adam([{"params": [parameters[k] for k in ("emb", "att", "layers.0.weight")], "weight_decay": 0.1},
                            {"params": [parameters["layers.0.bias"]]}])  # fmt: skip
    sum((p**2).sum() for p in parameters.values()).backward()
    opt.step()
    torch.save(
        {
            "model": {k: p.data for k, p in parameters.items()},
            "optimizer": opt.state_dict(),
            "args": {"scale": 1.0, "curvature": 0.7, "optimizer": "Adam"},
        },
        tmp_path / "x.pth",
    )
    ckpt = weights.load(tmp_path / "x.pth")
    assert ckpt.plan.source == "the architecture's groups"
    first = ckpt.opt_state.groups[0]
    assert np.array_equal(first.mu["dense_0"]["kernel"], opt.state[parameters["layers.0.weight"]]["exp_avg"].T.numpy())
    assert first.mu["att"].shape == (2, 5)
    weights.export(ckpt, tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))
    with pytest.raises(Unmatched, match="optimizer is radam, the file's settings are those of Adam"):
        weights.load(tmp_path / "x.pth", config={"optimizer": "radam"})


def test_what_does_not_fit(tmp_path):
    net, opt = trained(dtype=torch.float64)

    def broken(change) -> dict:
        section = copy.deepcopy(opt.state_dict())
        change(section)
        return section

    def drop(section):
        section["param_groups"][0]["params"].pop()

    cases = {
        "the optimizer has 3 parameters; the model has 3|state for index": drop,
        "indices, of which 3 are distinct": lambda s: s["param_groups"][0].update(params=[0, 1, 2, 2]),
        "emb has exp_avg, step but no exp_avg_sq": lambda s: s["state"][0].pop("exp_avg_sq"),
        "exp_avg at index 2 has shape": lambda s: s["state"][2].update(exp_avg=torch.zeros(5)),
        "not finite": lambda s: s["state"][2]["exp_avg"].fill_(float("inf")),
        "is -1, which is not a count": lambda s: s["state"][2].update(step=-1),
        "state of lin/weight contains surprise": lambda s: s["state"][2].update(surprise=torch.zeros(1)),
        "is not recognised; known are": lambda s: s["param_groups"][0].pop("betas"),
        "out of range|betas|b1|do not fit": lambda s: s["param_groups"][0].update(betas=(1.5, 0.9)),
        "emb has exp_avg, exp_avg_sq, step but no max_exp_avg_sq": lambda s: s["param_groups"][0].update(amsgrad=True),
    }
    for message, change in cases.items():
        with pytest.raises(Unmatched, match=message):
            load(tmp_path, net, broken(change))
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict()}, tmp_path / "x.pth")
    with pytest.raises(Usage, match="which parameters lie on which manifold"):
        weights.load(tmp_path / "x.pth", arch="tree")
    with pytest.raises(Usage, match="names 'em', but no parameter"):
        weights.load(tmp_path / "x.pth", arch="tree", manifolds={"em": PoincareBall(0.7)})
    assert weights.load(tmp_path / "x.pth", arch="tree", optimizer=False).optimizer is None
