"""A hyperbolic VAE as it was written for torch and geoopt: `python -m examples.own_model.vae_original vae.pth` trains it and saves it.

The posterior is a normal distribution wrapped around a point of the ball (Nagano et al. 2019, section 4; Mathieu et al. 2019, section 3.2),
the decoder begins with distances to hyperplanes (Mathieu et al., section 3.3), and the curvature is trained.
"""

from __future__ import annotations

import math
import sys

import geoopt
import torch
from geoopt.layers.stereographic import Distance2StereographicHyperplanes
from torch import Tensor, nn
from torch.nn import functional as F


def sample(ball: geoopt.PoincareBall, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """z = exp_mean(PT_{0→mean}(v/λ_0)), v = scale noise (Nagano et al. 2019, algorithm 1; on the ball λ_0 = 2, so that |v| is a length)."""
    return ball.expmap(mean, ball.transp0(mean, scale * noise / 2))


def log_prob(ball: geoopt.PoincareBall, z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """log N(v; 0, diag(scale²)) - (d - 1) log(sinh(√c r)/(√c r)), r = |v|, of v = λ_0 PT_{mean→0}(log_mean z)
    (Mathieu et al. 2019, equation 6).
    """
    v = 2 * ball.transp0back(mean, ball.logmap(mean, z))
    r = ball.c.sqrt() * v.norm(dim=-1)
    normal = -0.5 * (v / scale).square().sum(-1) - scale.log().sum(-1) - 0.5 * v.shape[-1] * math.log(2 * math.pi)
    return normal - (v.shape[-1] - 1) * torch.log(torch.sinh(r) / r)


class VAE(nn.Module):
    """Rows of bits, and standard normal numbers for one sample of each: samples, logits, and the evidence lower bound of each row."""

    def __init__(self, data: int = 8, hidden: int = 8, latent: int = 2, c: float = 0.7):
        super().__init__()
        self.ball = geoopt.PoincareBall(c, learnable=True)
        self.encoder = nn.Linear(data, hidden)
        self.dropout = nn.Dropout(0.25)
        self.mean, self.scale = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.planes = Distance2StereographicHyperplanes(latent, hidden, ball=self.ball, init_std=0.3)
        self.decoder = nn.Linear(hidden, data)

    def forward(self, x: Tensor, noise: Tensor) -> dict[str, Tensor]:
        h = self.dropout(torch.tanh(self.encoder(x)))
        mean, scale = self.ball.expmap0(self.mean(h)), F.softplus(self.scale(h))
        z = sample(self.ball, mean, scale, noise)
        logits = self.decoder(torch.tanh(self.planes(z)))
        prior = log_prob(self.ball, z, torch.zeros_like(mean), torch.ones_like(scale))
        fit = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        elbo = fit + prior - log_prob(self.ball, z, mean, scale)
        return {"z": z, "logits": logits, "elbo": elbo, "loss": -elbo.mean()}


def trained(steps: int = 12, seed: int = 0) -> tuple[VAE, dict]:
    """The network after some steps on random bits, and what a training program saves of it."""
    torch.manual_seed(seed)
    net = VAE()
    optimizer = geoopt.optim.RiemannianAdam(net.parameters(), lr=1e-2)
    x = (torch.rand(40, 8) < torch.rand(8)).float()
    for _ in range(steps):
        optimizer.zero_grad()
        net(x, torch.randn(40, 2))["loss"].backward()
        optimizer.step()
    return net, {"model": net.state_dict(), "optimizer": optimizer.state_dict()}


if __name__ == "__main__":
    torch.save(trained()[1], sys.argv[1])
