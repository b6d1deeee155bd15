"""Whole pickled modules of geoopt, with an optimizer beside them: converted, kept, and written back as torch has them."""

from __future__ import annotations

from pathlib import Path

import geoopt
import torch

import weights
from parity_tests import draws
from parity_tests.weights.helpers import assert_deep_equal


class Ball(torch.nn.Module):
    """Points on a ball whose curvature is trained."""

    def __init__(self):
        super().__init__()
        draws.seed_torch(5)
        self.ball = geoopt.PoincareBall(1.3, learnable=True)
        self.emb = geoopt.ManifoldParameter(self.ball.random_normal(5, 3, std=0.3).detach(), manifold=self.ball)

    def loss(self) -> torch.Tensor:
        return self.ball.dist0(self.emb).sum()


def saved(path: Path, net: Ball) -> dict:
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
