"""Fully hyperbolic graph network on torch and geoopt: the original that `port_jax.models.HyboNet` translates."""

from __future__ import annotations

import geoopt
from torch import Tensor, nn

from reference_torch.graphs.graph import Graph
from reference_torch.layers.hgat import ACTIVATIONS
from reference_torch.layers.hybonet import LorentzDecoder, LorentzGraphConvolution, inner, lift


class HyboNet(nn.Module):
    """HyboNet (arXiv 2105.14686) for graphs. Keyword arguments are its code's settings; `feat_dim` is one more than the features have.

    Task nc has num_layers - 1 encoder layers and a classifier, lp has num_layers layers. k is 1 throughout.
    """

    def __init__(self, feat_dim: int, dim: int = 16, num_layers: int = 2, *, task: str = "nc", n_classes: int | None = None,
                 act: str | None = None, bias: bool = True, use_att: bool = False, dropout: float = 0.0):  # fmt: skip
        super().__init__()
        depth = num_layers if task == "lp" else num_layers - 1
        self.manifold = geoopt.Lorentz(1.0)
        self.encoder = nn.Module()
        self.encoder.manifold = geoopt.Lorentz(1.0)
        self.encoder.layers = nn.ModuleList(
            LorentzGraphConvolution(
                dim if i else feat_dim,
                dim,
                bool(bias),
                dropout,
                bool(use_att),
                ACTIVATIONS[act or "none"] if i else None,
            )
            for i in range(depth)
        )
        self.decoder = LorentzDecoder(dim, n_classes or 2, bool(bias)) if task == "nc" else None

    def encode(self, x: Tensor, graph: Graph) -> Tensor:
        """Points of the hyperboloid [N, dim]."""
        h = lift(x)
        for layer in self.encoder.layers:  # pyright: ignore[reportGeneralTypeIssues]
            h = layer(h, graph)
        return h

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Class logits for nc, embeddings for lp."""
        h = self.encode(x, graph)
        return h if self.decoder is None else self.decoder(h)

    def score(self, h: Tensor, pairs: Tensor) -> Tensor:
        """2 + 2 <h_i, h_j>: minus the squared Lorentzian distance of each pair [P, 2]."""
        return 2 + 2 * inner(h[pairs[:, 0]], h[pairs[:, 1]]).squeeze(-1)
