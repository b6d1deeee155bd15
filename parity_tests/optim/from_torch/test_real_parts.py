"""Complex parameters go on, and come back, as torch's optimizers step them: by real and imaginary part."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import weights
from parity_tests import draws
from parity_tests.optim.from_torch.runs import plain
from parity_tests.weights.helpers import assert_deep_equal
from port_jax.manifolds import Euclidean
from port_jax.optim import from_torch, to_torch
from port_jax.optim.from_torch.real_parts import by_real_parts
from port_jax.optim.from_torch.rules import rmsprop

BEFORE, AFTER, NAMES = 3, 5, ["z", "x"]
MAKE = {
    "Adam": lambda p: torch.optim.Adam(p, 0.03, (0.8, 0.97), 1e-4, 0.1, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.03, (0.8, 0.97), 1e-4, 0.3, maximize=True),
    "SGD": lambda p: torch.optim.SGD(p, 0.01, 0.8, 0, 0.05, nesterov=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.02, 0.9, 1e-3, 0.05, 0.7, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.05, 0.1, 0.03, 0.2, eps=1e-3),
    "RiemannianAdam": lambda p: geoopt.optim.RiemannianAdam(p, 0.03, (0.8, 0.97), 1e-4, weight_decay=0.1),
}


def gradients(step):
    rng = draws.rng(step)
    return {"z": rng.normal(size=(2, 3)) + 1j * rng.normal(size=(2, 3)), "x": rng.normal(size=3)}


def begun(name):
    rng = draws.rng(50)
    values = rng.normal(size=(2, 3)) + 1j * rng.normal(size=(2, 3)), rng.normal(size=3)
    return (params := [torch.nn.Parameter(torch.tensor(v)) for v in values]), MAKE[name](params)


def go(params, optimizer, steps):
    for step in steps:
        for p, g in zip(params, gradients(step).values(), strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
    return dict(zip(NAMES, [p.detach().numpy().copy() for p in params], strict=True))


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("before", [0, BEFORE])
def test_goes_on_and_comes_back_as_torch(name, before):
    params, optimizer = begun(name)
    start = go(params, optimizer, range(before))
    saved, known = plain(optimizer.state_dict()), {"names": NAMES, "manifolds": {"z": Euclidean(), "x": Euclidean()}, "optimizer": name}
    ours = jax.tree.map(jnp.asarray, start)
    tx, state = from_torch(saved, params=ours, **known)
    move = jax.jit(tx.update)
    for step in range(before, before + AFTER):
        updates, state = move(gradients(step), state, ours)
        ours = optax.apply_updates(ours, updates)
    want = go(params, optimizer, range(before, before + AFTER))
    # the same formulas entry by entry in float64: roundings of a few steps
    for key in NAMES:
        np.testing.assert_allclose(ours[key], want[key], rtol=0, atol=1e-13 * np.abs(want[key]).max())
    back, theirs = to_torch(state, saved, params=ours, **known)[0]["state"], plain(optimizer.state_dict())["state"]
    for index in range(2):
        assert back[index].keys() == theirs[index].keys()
        for key, value in theirs[index].items():
            np.testing.assert_allclose(back[index][key], value, rtol=1e-12, atol=1e-15)
            assert np.asarray(back[index][key]).dtype == np.asarray(value).dtype or key == "step"


def test_a_file_goes_on_and_comes_back(tmp_path):
    params, optimizer = begun("Adam")
    start = go(params, optimizer, range(BEFORE))
    model = {key: p.detach() for key, p in zip(NAMES, params, strict=True)}
    torch.save({"model": model, "optimizer": optimizer.state_dict()}, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree")
    assert not ckpt.report["not_converted"]
    updates, _ = ckpt.optimizer.update(gradients(BEFORE), ckpt.opt_state, ckpt.variables["params"])
    ckpt.save(tmp_path / "out")
    weights.export(tmp_path / "out", tmp_path / "back.pth")
    assert_deep_equal(*(torch.load(tmp_path / name, weights_only=True) for name in ("x.pth", "back.pth")))
    want = go(params, optimizer, [BEFORE])
    for key in NAMES:
        np.testing.assert_allclose(updates[key], want[key] - start[key], rtol=0, atol=1e-14)


def test_without_a_gradient_nothing_moves():
    params = jax.tree.map(jnp.asarray, gradients(0))
    tx = by_real_parts(rmsprop(0.1))
    updates, state = tx.update({**gradients(1), "z": None}, tx.init(params), params)
    assert not np.any(updates["z"])
    assert updates["z"].dtype == params["z"].dtype
    assert [int(state.count[key]) for key in NAMES] == [0, 1]
    assert state.buffers["square_avg"]["z"].dtype == params["z"].dtype
