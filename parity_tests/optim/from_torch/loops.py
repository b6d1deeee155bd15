"""The optimizers of repositories and of older versions of geoopt on bare tensors and given gradients, and the same steps in JAX."""

from __future__ import annotations

from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from parity_tests import draws
from parity_tests.optim.from_torch.runs import plain
from port_jax.manifolds import Lorentz, PoincareBall
from reference_torch.optim import riemannian_adam
from reference_torch.optim.from_torch import repositories


class Loop:
    """An optimizer over `params`, tensors that it changes in place. points: their manifolds, or None for flat ones."""

    kind: Any

    def __init__(self, params, points, **settings):
        self.params = params
        moved = [torch.nn.Parameter(p) if M is None else geoopt.ManifoldParameter(p, manifold=M) for p, M in zip(params, points)]
        self.moved: Any = moved
        usual = {"lr": 0.03}
        if issubclass(self.kind, riemannian_adam.Adam):
            usual = {**usual, "betas": (0.8, 0.97), "eps": 1e-3, "weight_decay": 0.1}
        self.optimizer = self.kind(moved, **{**usual, **settings})

    def step(self, grads):
        for p, g in zip(self.moved, grads, strict=True):
            p.grad = g
        self.optimizer.step()

    def state_dict(self):
        return self.optimizer.state_dict()


class OldGeoopt(Loop):
    kind = riemannian_adam.OldGeoopt


class MiddleGeoopt(Loop):
    kind = riemannian_adam.MiddleGeoopt


class Hybonet(Loop):
    kind = repositories.Hybonet


class HGCN(Loop):
    kind = repositories.HGCN


class MuRP(Loop):
    kind = repositories.MuRP


class PoincareEmbeddings(Loop):
    kind = repositories.PoincareEmbeddings


def tensors(rng: np.random.Generator, manifold, shapes):
    """Five points of the manifold of three coordinates (on the hyperboloid time before them), and flat tensors of these shapes."""
    points = torch.tensor(0.5 * rng.normal(size=(5, 3)) / np.sqrt(3))
    if isinstance(manifold, geoopt.PoincareBall):
        points = 0.8 * points / manifold.c**0.5
    else:
        points = torch.cat([(manifold.k + (points * points).sum(-1, keepdim=True)).sqrt(), points], -1)
    return [points, *(torch.tensor(rng.normal(size=shape)) for shape in shapes)]


SHAPES = ((4, 2), (2,), ())
PATHS = ["points", "layer/kernel", "layer/bias", "layer/scale"]
BEFORE, AFTER = 7, 40


def ball(c):
    return geoopt.PoincareBall(torch.tensor(c, dtype=torch.float64)), PoincareBall(c)


def hyperboloid(k):
    return geoopt.Lorentz(torch.tensor(k, dtype=torch.float64)), Lorentz(k)


# name: loop, manifold, its settings, what has to be said, the class recognised
CASES = {
    "geoopt 0.3.1": (OldGeoopt, ball(0.7), {}, "RiemannianAdam", "RiemannianAdam"),
    "geoopt 0.3.1, stabilized": (OldGeoopt, ball(0.7), {"amsgrad": True, "stabilize": 12}, "RiemannianAdam", "RiemannianAdam"),
    "geoopt 0.3.1 on the hyperboloid": (OldGeoopt, hyperboloid(1.3), {"stabilize": 20}, "RiemannianAdam", "RiemannianAdam"),
    "geoopt 0.5.0": (MiddleGeoopt, ball(0.7), {"stabilize": 3}, None, "RiemannianAdam"),
    "geoopt 0.5.0, amsgrad": (MiddleGeoopt, hyperboloid(1.3), {"amsgrad": True}, None, "RiemannianAdam"),
    "hybonet": (Hybonet, hyperboloid(1.3), {"stabilize": 10}, None, "hybonet.RiemannianAdam"),
    "hybonet, amsgrad": (Hybonet, ball(0.7), {"amsgrad": True}, None, "hybonet.RiemannianAdam"),
    "hgcn": (HGCN, ball(0.7), {}, None, "hgcn.RiemannianAdam"),
    "hgcn, amsgrad": (HGCN, ball(1.9), {"amsgrad": True}, None, "hgcn.RiemannianAdam"),
    "murp": (MuRP, ball(1.0), {}, "murp.RiemannianSGD", "murp.RiemannianSGD"),
    "poincare embeddings": (PoincareEmbeddings, ball(1.0), {}, None, "poincare_embeddings.RiemannianSGD"),
    "lorentz embeddings": (PoincareEmbeddings, hyperboloid(1.0), {"lr": 0.1}, None, "poincare_embeddings.RiemannianSGD"),
}


def gradients(values, step):
    """Of quartics, straight from a distance of 1 on so that no step runs away, with noise by step so that no two are alike."""
    rng = draws.rng(100 + step)
    return [4 * np.clip(p - 0.2, -1, 1) ** 3 + 0.4 * rng.normal(size=np.shape(p)) for p in values]


def run(loop, start, steps):
    for step in range(start, start + steps):
        loop.step([torch.as_tensor(g) for g in gradients([p.numpy().copy() for p in loop.params], step)])
    return [p.numpy().copy() for p in loop.params]


def tree(values, cast=jnp.asarray):
    values = [cast(np.asarray(v)) for v in values]
    return {"points": values[0], "layer": dict(zip(("kernel", "bias", "scale"), values[1:]))}


def follow(tx, state, values, start, steps):
    params, move = tree(values), jax.jit(tx.update)
    for step in range(start, start + steps):
        updates, state = move(tree(gradients(leaves(params), step)), state, params)
        params = optax.apply_updates(params, updates)
    return leaves(params), state


def leaves(params):
    return [np.asarray(x) for x in (params["points"], *(params["layer"][name] for name in ("kernel", "bias", "scale")))]


def assert_same_path(found, expected, start):
    """To 1e-10 of each tensor's way, which is at least 0.01 of tensors of size 1: one number can come back to where it was."""
    ways = [np.abs(y - p).max() for y, p in zip(expected, start)]
    assert max(ways) > 0.01
    for name, x, y, way in zip(PATHS, found, expected, ways):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-10 * max(way, 0.01), err_msg=name)


def saved_by(make, manifold=None, steps=6, shapes=SHAPES, **settings):
    theirs = manifold or ball(0.7)[0]
    loop = make(tensors(draws.rng(3), theirs, shapes), [theirs, *([None] * len(shapes))], **settings)
    return loop, plain((run(loop, 0, steps), loop.state_dict())[1])
