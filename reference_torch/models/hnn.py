"""Hyperbolic neural network on torch: the original that `port_jax.models.HNN` translates."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from reference_torch.layers.hgcn import HypLayer
from reference_torch.models.node_model import NodeModel


class HNN(NodeModel):
    """HNN (arXiv 1805.09112): hyperbolic layers of one curvature; edges play no part."""

    def build(self, widths: list[int]) -> list[nn.Module]:
        """A layer between each two widths, all of one curvature."""
        return [HypLayer(self.space_name, a, b, self.c, self.dropout, self.act, self.bias) for a, b in pairwise(widths)]

    def start(self, x: Tensor) -> Tensor:
        """exp_0(x) at the model's curvature."""
        return self.space.exp0(x, self.c)
