"""Whole pickled modules of geoopt, with an optimizer beside them: converted, kept, and written back as torch has them."""

from __future__ import annotations

from pathlib import Path

import geoopt
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import weights
from parity_tests import draws
from parity_tests.weights.helpers import assert_deep_equal
from port_jax.manifolds import Euclidean, PoincareBall, ProductManifold, Sphere
from weights.errors import Usage
from weights.options import Reading


class Ball(torch.nn.Module):
    """Points on a ball whose curvature is trained."""

    def __init__(self):
        super().__init__()
        draws.seed_torch(5)
        self.ball = geoopt.PoincareBall(1.3, learnable=True)
        self.emb = geoopt.ManifoldParameter(self.ball.random_normal(5, 3, std=0.3).detach(), manifold=self.ball)

    def loss(self) -> torch.Tensor:
        return self.ball.dist0(self.emb).sum()


def saved(path: Path, net: Ball | Product) -> dict:
    optimizer = geoopt.optim.RiemannianAdam(net.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        net.loss().backward()
        optimizer.step()
    torch.save({"model": net, "optimizer": optimizer.state_dict(), "epoch": 2}, path)
    return torch.load(path, weights_only=False)


def test_a_module_beside_its_optimizer_is_restored_and_comes_back(tmp_path: Path):
    """The folder used to say that the file has nothing at 'model'."""
    before = saved(tmp_path / "net.pth", Ball())
    weights.load(tmp_path / "net.pth", arch="tree", section="model").save(tmp_path / "converted")
    weights.restore(tmp_path / "converted").export(tmp_path / "back.pth")
    after = torch.load(tmp_path / "back.pth", weights_only=False)
    assert_deep_equal(after["optimizer"], before["optimizer"])
    assert_deep_equal(dict(after["model"].state_dict()), dict(before["model"].state_dict()))
    assert torch.equal(after["model"].loss(), before["model"].loss())


class Product(torch.nn.Module):
    """Points of a product of three spaces."""

    def __init__(self):
        super().__init__()
        draws.seed_torch(6)
        ball = geoopt.PoincareBall(0.5)
        self.space = geoopt.ProductManifold((ball, 3), (geoopt.Sphere(), 3), (geoopt.Euclidean(), 2))
        parts = ball.random_normal(6, 3, std=0.3).detach(), torch.nn.functional.normalize(torch.randn(6, 3), dim=-1), torch.randn(6, 2)
        self.emb = geoopt.ManifoldParameter(torch.cat(parts, -1), manifold=self.space)
        self.t = torch.nn.Parameter(torch.randn(8))

    def loss(self) -> torch.Tensor:
        return (self.emb @ self.t).square().sum()


def test_a_pickled_product_is_read_with_its_factors_and_goes_on_as_torch_does(tmp_path: Path):
    net = Product()
    saved(tmp_path / "net.pth", net)
    found = weights.load(tmp_path / "net.pth", arch="tree")
    space = found.manifolds["emb"]
    assert isinstance(space, ProductManifold)
    assert [type(factor) for factor in space.manifolds] == [PoincareBall, Sphere, Euclidean]
    assert space.shapes == ((3,), (3,), (2,))
    np.testing.assert_allclose(space.manifolds[0].c, 0.5, rtol=1e-6)
    found.save(tmp_path / "converted")
    weights.restore(tmp_path / "converted").export(tmp_path / "back.pth")
    file = torch.load(tmp_path / "net.pth", weights_only=False)
    assert_deep_equal(torch.load(tmp_path / "back.pth", weights_only=False)["optimizer"], file["optimizer"])
    after, optimizer = file["model"], geoopt.optim.RiemannianAdam(file["model"].parameters(), lr=1e-2)
    optimizer.load_state_dict(file["optimizer"])
    after.loss().backward()
    grads = {"emb": after.emb.grad.numpy().copy(), "t": after.t.grad.numpy().copy()}
    optimizer.step()
    params = found.variables["params"]
    updates, _ = found.optimizer.update({name: jnp.asarray(g) for name, g in grads.items()}, found.opt_state, params)
    stepped = optax.apply_updates(params, updates)
    for name in grads:
        np.testing.assert_allclose(stepped[name], getattr(after, name).detach().numpy(), rtol=2e-5, atol=2e-6)


def test_a_product_is_named_in_python(tmp_path: Path):
    net = Product()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    with pytest.raises(Usage, match=r"weights\.load\(\.\.\., manifolds=\{\"emb\": ProductManifold\(\(PoincareBall\(0\.7\), 3\)"):
        _ = Reading(manifold=["emb=ProductManifold"]).said
    given = {"emb": ProductManifold((PoincareBall(0.5), 3), (Sphere(), 3), (Euclidean(), 2))}
    assert weights.load(tmp_path / "net.pth", arch="tree", manifolds=given).manifolds["emb"].shapes == ((3,), (3,), (2,))
