"""The hyperbolic VAE of `examples/own_model`: both sides, its evidence lower bound at 50 digits, and the steps of its training."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import geoopt
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch
from mpmath import exp, log, mpf

import weights
from examples.own_model.vae_original import trained
from examples.own_model.vae_port import PORT, inputs
from parity_tests.oracle import densities, stereographic
from port_jax.manifolds import PoincareBall


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Trained until its curvature is no longer 0.7, saved with its optimizer, and converted."""
    net, saved = trained(6)
    path = tmp_path_factory.mktemp("vae") / "vae.pth"
    torch.save(saved, path)
    net.double().eval()
    ckpt = weights.load(path, port=PORT)
    apply = jax.jit(lambda v, x, noise: ckpt.model.apply(v, x, noise))
    return SimpleNamespace(net=net, path=path, saved=saved, ckpt=ckpt, apply=apply)


def in_float64(tree):
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def test_the_lower_bound_at_50_digits(vae: SimpleNamespace):
    """Logits are torch's. Both densities are those of the map from noise to points, by its determinant."""
    given = inputs(3, 1)
    theirs = vae.net(*map(torch.as_tensor, given.values()))
    ours = vae.apply(in_float64(vae.ckpt.variables), *given.values())
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value.detach(), rtol=1e-11, atol=1e-12, err_msg=name)
    h = torch.tanh(vae.net.encoder(torch.as_tensor(given["x"])))
    u, scale = vae.net.mean(h).tolist(), torch.nn.functional.softplus(vae.net.scale(h)).tolist()
    with mpmath.workdps(50):
        c = log(1 + exp(mpf(vae.net.ball.isp_c.item())))
        assert abs(c - mpf("0.7")) > 1e-3
        for n, (bits, noise, logits) in enumerate(zip(given["x"], given["noise"], theirs["logits"].tolist())):
            mean, s = stereographic.expmap0([mpf(a) for a in u[n]], -c), [mpf(a) for a in scale[n]]
            v = [a * mpf(b) for a, b in zip(s, noise)]
            z = densities.wrapped(mean, v, -c)
            from_origin = stereographic.times(2, stereographic.logmap0(z, -c))
            prior = densities.log_density([mpf(0)] * 2, [mpf(1)] * 2, from_origin, -c)
            fit = -sum(log(1 + exp(mpf(a) * (1 - 2 * int(b)))) for a, b in zip(logits, bits))
            exact = fit + prior - densities.log_density(mean, s, v, -c)
            np.testing.assert_allclose(np.asarray(ours["elbo"])[n], float(exact), rtol=1e-11)


@pytest.mark.slow  # as test_own_port.py's models
def test_training_goes_on_as_in_torch(vae: SimpleNamespace):
    """Five steps of RiemannianAdam from the file's moments on the negative lower bound, with new noise at each."""
    net = copy.deepcopy(vae.net).float()  # the other tests have it as it was saved
    net.load_state_dict(vae.saved["model"])
    net.double()
    optimizer = geoopt.optim.RiemannianAdam(net.parameters(), lr=1e-2)
    optimizer.load_state_dict(vae.saved["optimizer"])
    for state in optimizer.state.values():  # a float32 tensor after a reload, and 0.999 ** t then has 24 bits
        state["step"] = int(state["step"])
    params, state, tx = *in_float64((vae.ckpt.variables["params"], vae.ckpt.opt_state)), vae.ckpt.optimizer
    start = params

    @jax.jit
    def step(params, state, x, noise):
        slopes = jax.grad(lambda p: vae.ckpt.model.apply({"params": p}, x, noise)["loss"])(params)
        updates, state = tx.update(slopes, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    for n in range(5):
        given = inputs(seed=10 + n)
        optimizer.zero_grad()
        net(*map(torch.as_tensor, given.values()))["loss"].backward()
        optimizer.step()
        params, state = step(params, state, *given.values())
    found = {"planes/points": params["planes"]["points"], "ball/isp_c": params["ball"]["isp_c"], "mean/kernel": params["mean"]["kernel"].T}
    begun = {"planes/points": start["planes"]["points"], "ball/isp_c": start["ball"]["isp_c"], "mean/kernel": start["mean"]["kernel"].T}
    for (name, ours), theirs in zip(found.items(), (net.planes.points, net.ball.isp_c, net.mean.weight), strict=True):
        way = np.abs(np.asarray(ours) - begun[name]).max()
        assert way > 1e-3, name
        np.testing.assert_allclose(ours, theirs.detach(), rtol=0, atol=1e-9 * way, err_msg=name)
    PoincareBall.from_raw(params["ball"]["isp_c"]).assert_check_point_on_manifold(params["planes"]["points"])


@pytest.mark.slow
def test_everything_agrees(vae: SimpleNamespace):
    found = weights.parity(PORT, vae.path)
    assert found.ok, found
    assert {row.what for row in found.rows if row.level == "forward"} == {"z", "logits", "elbo", "loss"}
    assert {row.what for row in found.rows if row.level == "step"} >= {"planes.points", "ball.isp_c", "mean.weight"}


def test_the_example_is_short():
    assert len(Path("examples/own_model/vae_port.py").read_text().splitlines()) < 60
