"""Poincare and Lorentz embeddings and entailment cones (arXiv 1705.08039, 1806.03417, 1804.01882), with the parameter
names of their code."""

from __future__ import annotations

import geoopt
import torch
from torch import Tensor, nn

from reference_torch.layers.learnable_curvature import Ball

CONE = 0.1


class PoincareEmbeddings(nn.Module):
    """A table `lt.weight` [N, d], or [N, d + 1] on the hyperboloid, and the energy of a pair: distance, or how far
    outside of a cone.

    `manifold` is poincare, lorentz or euclidean (squared distance), curvature -1; `energy` is distance or
    entailment_cones.
    """

    def __init__(self, size: int, dim: int, *, manifold="poincare", energy="distance"):
        super().__init__()
        self.manifold, self.energy = manifold, energy
        self.lt = nn.Embedding(size, dim + (manifold == "lorentz"))
        start = 1e-2 * torch.randn(size, dim)
        if manifold == "lorentz":
            start = torch.cat([(1 + start.pow(2).sum(-1, keepdim=True)).sqrt(), start], -1)
        geometry = {
            "poincare": geoopt.PoincareBall(1.0),
            "lorentz": geoopt.Lorentz(1.0),
            "euclidean": geoopt.Euclidean(1),
        }[manifold]
        self.lt.weight = geoopt.ManifoldParameter(start, manifold=geometry)  # pyright: ignore[reportCallIssue]

    def encode(self) -> Tensor:
        """The table [n, d]."""
        return self.lt.weight

    def forward(self, inputs: Tensor) -> Tensor:
        """Energies [B, n - 1] of inputs[:, 1:] against inputs[:, 0]."""
        points = self.lt(inputs)
        return self.between(points[:, :1], points[:, 1:])

    def score(self, h: Tensor, pairs: Tensor) -> Tensor:
        """Energies [P] of pairs [P, 2] of the rows of h."""
        return self.between(h[pairs[:, 0]], h[pairs[:, 1]])

    def between(self, s: Tensor, o: Tensor) -> Tensor:
        """Energies [...] of s against o [..., d]: the distance, its square if flat, or the entailment cone's."""
        if self.energy == "entailment_cones":
            return (self._angle(o, s) - self._aperture(o)).clamp(min=0)
        if self.manifold == "euclidean":
            return (s - o).pow(2).sum(-1)
        if self.manifold == "poincare":
            return Ball(s.new_ones(())).dist(s, o)
        return geoopt.Lorentz().to(s.dtype).dist(s, o)

    def _ball(self, x: Tensor) -> Tensor:
        return x[..., 1:] / (1 + x[..., :1]) if self.manifold == "lorentz" else x

    def _aperture(self, x: Tensor) -> Tensor:
        """arcsin(r (1 - |x|^2) / |x|), r = 2K / (1 + sqrt(1 + 4K^2)), in the ball's coordinates; pi/2 inside of the
        radius r."""
        inner = 2 * CONE / (1 + (1 + 4 * CONE**2) ** 0.5)
        square = self._ball(x).pow(2).sum(-1)
        if self.manifold == "euclidean":
            return torch.asin(inner / square.sqrt())
        return torch.asin((inner * (1 - square) / square.sqrt()).clamp(max=1 - 1e-5))

    def _angle(self, u: Tensor, v: Tensor) -> Tensor:
        """The angle at x between the ray from the origin through x and the geodesic to y (1804.01882, equation 28).

        The original takes x = u on the hyperboloid and x = v on the ball.
        """
        if self.manifold == "euclidean":
            far = (v - u).pow(2).sum(-1)
            top = u.pow(2).sum(-1) - v.pow(2).sum(-1) - far**2
            return torch.acos(top / (2 * v.norm(dim=-1) * far))
        x, y = (self._ball(u), self._ball(v)) if self.manifold == "lorentz" else (v, u)
        dot, nx, ny = (x * y).sum(-1), x.pow(2).sum(-1), y.pow(2).sum(-1)
        top = dot * (1 + nx) - nx * (1 + ny)
        return torch.acos(top / (nx.sqrt() * (x - y).norm(dim=-1) * (1 + nx * ny - 2 * dot).sqrt()))
