"""Hyperbolic graph convolution on torch: the original that `port_jax.models.HGCN` translates."""

from __future__ import annotations

from torch import Tensor, nn

from reference_torch.layers.hgcn import HypGraphConvolution
from reference_torch.models.node_model import NodeModel


class HGCN(NodeModel):
    """HGCN (arXiv 1910.12933): layer i goes from curvature c_i to c_{i+1}, the last of which is the model's.

    Own settings: `use_att`, and with it `local_agg`.
    """

    def build(self, widths: list[int]) -> list[nn.Module]:
        """A layer between each two widths, each with a curvature of its own if curvatures are trained."""
        c = [self.curvature() for _ in widths[1:]] + [self.c]
        use_att, local_agg = bool(self.own.get("use_att")), bool(self.own.get("local_agg"))
        return [
            HypGraphConvolution(self.space_name, widths[i], widths[i + 1], c[i], c[i + 1], self.dropout,
                                self.act, self.bias, use_att, local_agg)
            for i in range(len(widths) - 1)
        ]  # fmt: skip

    def start(self, x: Tensor) -> Tensor:
        """exp_0(x) at the first layer's curvature."""
        return self.space.exp0(x, self.encoder.layers[0].linear.c)  # pyright: ignore[reportIndexIssue, reportAttributeAccessIssue]
