"""Steps of a small torch model, and the same steps of its converted checkpoint."""

from __future__ import annotations

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

import weights
from parity_tests import draws
from parity_tests.weights.helpers import Net
from port_jax.manifolds import PoincareBall

BALL = {"emb": PoincareBall(float(Net(dtype=torch.float64).ball.c))}
STEPS = 4


def target(step: int) -> torch.Tensor:
    return torch.randn(6, 2, generator=draws.generator(100 + step)).double()


def go_on(net: Net, opt) -> tuple[dict, list]:
    """The parameters after more steps in torch, and the gradients of each step."""
    gradients = []
    for step in range(STEPS):
        opt.zero_grad()
        net.loss(target(step)).backward()
        gradients.append({k: None if p.grad is None else p.grad.clone().numpy() for k, p in net.named_parameters()})
        opt.step()
    return {k: v.numpy() for k, v in net.state_dict().items()}, gradients


def flat(tree) -> dict:
    return {
        ".".join(str(jax.tree_util.keystr((k,), simple=True)) for k in path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def follow(ckpt, gradients) -> dict:
    """The parameters after the same gradients in JAX."""
    params, state = ckpt.variables["params"], ckpt.opt_state
    for gradient in gradients:
        tree = jax.tree_util.tree_map_with_path(lambda at, p, g=gradient: _gradient(g, at, p), params)
        updates, state = ckpt.optimizer.update(tree, state, params)
        params = optax.apply_updates(params, updates)
    return flat(params)


def _gradient(gradients, at, p):
    found = gradients[".".join(str(jax.tree_util.keystr((k,), simple=True)) for k in at)]
    return jnp.zeros_like(p) if found is None else jnp.asarray(found)


def load(tmp_path, net, opt, **kwargs):
    torch.save({"model": net.state_dict(), "optimizer": opt if isinstance(opt, dict) else opt.state_dict()}, tmp_path / "x.pth")
    flat_one = not isinstance(opt, dict) and not isinstance(opt, (geoopt.optim.RiemannianAdam, geoopt.optim.RiemannianSGD))
    return weights.load(tmp_path / "x.pth", arch="tree", manifolds=None if flat_one else BALL, **kwargs)


def assert_close(ours: dict, theirs: dict, start: dict, gate: float = 1e-10):
    for key, value in ours.items():
        way = np.max(np.abs(theirs[key] - start[key]))
        assert np.max(np.abs(np.asarray(value) - theirs[key])) <= gate * max(way, 1e-300), key
