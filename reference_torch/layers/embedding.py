"""A table of points."""

from __future__ import annotations

import torch
from geoopt import ManifoldParameter
from torch import Tensor, nn

from reference_torch.layers.tangent import from_tangent0


class PointEmbedding(nn.Module):
    """The rows of a table of points."""

    def __init__(self, manifold, num_embeddings: int, features: int, stddev: float = 1e-2):
        super().__init__()
        start = from_tangent0(manifold, stddev * torch.randn(num_embeddings, features))
        self.embedding = ManifoldParameter(start, manifold=manifold)  # pyright: ignore[reportCallIssue]

    def forward(self, manifold, indices: Tensor) -> Tensor:
        """Indices [...] to points [..., ambient]."""
        return self.embedding[indices]
