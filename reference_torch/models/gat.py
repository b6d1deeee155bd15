"""Graph attention network on torch: the original that `port_jax.models.GAT` translates."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from reference_torch.layers.gcn import GraphAttention
from reference_torch.layers.hgat import ACTIVATIONS
from reference_torch.models.node_model import NodeModel


class GAT(NodeModel):
    """GAT (arXiv 1710.10903) as in HGCN's code; the classifier is one attention head with ELU.

    Own settings: `n_heads`, which share `dim` among them, and `alpha`, the slope of LeakyReLU.
    """

    def build(self, widths: list[int]) -> list[nn.Module]:
        """A layer of attention heads between each two widths."""
        heads, slope = self.own.get("n_heads", 4), self.own.get("alpha", 0.2)
        return [GraphAttention(a, b // heads, self.dropout, self.act, slope, heads) for a, b in pairwise(widths)]

    def classifier(self, dim: int, n_classes: int) -> nn.Module:
        """One attention head with ELU, from `dim` to the classes."""
        return GraphAttention(dim, n_classes, self.dropout, ACTIVATIONS["elu"], self.own.get("alpha", 0.2), 1)

    def read(self, h: Tensor) -> Tensor:
        """h itself: the model is Euclidean."""
        return h
