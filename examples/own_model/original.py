"""The network as it was written for torch and geoopt: `python -m examples.own_model.original own.pth` trains it and saves it.

Two linear maps with biases on the ball, batch norm between them in the tangent space at the origin, and distances to hyperplanes as
logits, all on one ball whose curvature is trained.
"""

from __future__ import annotations

import sys

import geoopt
import torch
from geoopt.layers.stereographic import Distance2StereographicHyperplanes
from torch import Tensor, nn


class MobiusLinear(nn.Module):
    """y = (W (x) x) (+) b with a bias b on the ball."""

    def __init__(self, ball: geoopt.PoincareBall, fan_in: int, fan_out: int):
        super().__init__()
        self.ball = ball
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) / fan_in**0.5)
        start = ball.expmap0(0.1 * torch.randn(fan_out))
        self.bias = geoopt.ManifoldParameter(start, manifold=ball)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:
        return self.ball.mobius_add(self.ball.mobius_matvec(self.weight, x), self.bias)


class Net(nn.Module):
    """Class logits of rows of features."""

    def __init__(self, fan_in: int = 6, width: int = 8, classes: int = 3, c: float = 0.7):
        super().__init__()
        self.ball = geoopt.PoincareBall(c, learnable=True)
        self.first = MobiusLinear(self.ball, fan_in, width)
        self.norm = nn.BatchNorm1d(width)
        self.second = MobiusLinear(self.ball, width, width)
        self.planes = Distance2StereographicHyperplanes(width, classes, ball=self.ball, init_std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.ball.expmap0(x))
        h = self.ball.expmap0(self.norm(self.ball.logmap0(h)))
        return self.planes(self.second(h))


def trained(steps: int = 12, seed: int = 0) -> tuple[Net, dict]:
    """The network after some steps on random features, and what a training program saves of it."""
    torch.manual_seed(seed)
    net = Net()
    optimizer = geoopt.optim.RiemannianAdam(net.parameters(), lr=1e-2, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.5)
    x, labels = 0.5 * torch.randn(40, 6), torch.randint(3, (40,))
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()
        scheduler.step()
    return net, {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}


if __name__ == "__main__":
    torch.save(trained()[1], sys.argv[1])
