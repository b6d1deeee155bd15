"""Graph convolutional network on torch: the original that `port_jax.models.GCN` translates."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from reference_torch.layers.gcn import GraphConvolution
from reference_torch.layers.hgat import ACTIVATIONS
from reference_torch.models.node_model import NodeModel


class GCN(NodeModel):
    """GCN (arXiv 1609.02907); the classifier is a convolution as well."""

    def build(self, widths: list[int]) -> list[nn.Module]:
        """A graph convolution between each two widths."""
        return [GraphConvolution(a, b, self.dropout, self.act, self.bias) for a, b in pairwise(widths)]

    def classifier(self, dim: int, n_classes: int) -> nn.Module:
        """A graph convolution without activation, from `dim` to the classes."""
        return GraphConvolution(dim, n_classes, self.dropout, ACTIVATIONS["none"], self.bias)

    def read(self, h: Tensor) -> Tensor:
        """h itself: the model is Euclidean."""
        return h
