"""Shallow embeddings on torch: the original that `port_jax.models.Shallow` translates."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import geoopt
import torch
from torch import Tensor, nn

from reference_torch.layers.gcn import Dense
from reference_torch.models.node_model import NodeModel
from reference_torch.models.tree import made


class _FollowingBall(geoopt.PoincareBallExact):
    """The ball of a curvature that is trained beside the points."""

    def __init__(self, c: Tensor):
        super().__init__()
        self.trained = [c]

    @property
    def c(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.trained[0].detach()[0]


class _FollowingHyperboloid(geoopt.Lorentz):
    """The hyperboloid <x, x> = -1/c of a curvature that is trained beside the points."""

    def __init__(self, c: Tensor):
        super().__init__()
        del self._parameters["k"]
        self.trained = [c]

    @property
    def k(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 1 / self.trained[0].detach()[0]


class Shallow(NodeModel):
    """A table of points `encoder.lt` [n_nodes, width], with the features beside it if `use_feats`.

    Trained, the table is the whole encoder. Pretrained (`pretrained` gives its width), it stays as it is, and dense layers follow.
    Own settings: `n_nodes`, `use_feats`, `pretrained`.
    """

    def build(self, widths: list[int]) -> list[nn.Module]:
        """No layers behind a trained table; behind a pretrained one a dense layer between each two widths."""
        width, given = self.own.get("pretrained") or self.dim, bool(self.own.get("pretrained"))
        start: Any = 1e-5 * torch.randn(self.own["n_nodes"], width)
        if not given:
            if self.space.time:
                start[:, 0] = 0
            start = self.space.exp0(start, self.c).detach()
            self.encoder.lt = geoopt.ManifoldParameter(start, manifold=self.geometry())  # pyright: ignore[reportCallIssue]
            return []
        self.encoder.lt = nn.Parameter(start, requires_grad=False)
        widths = [width + (widths[0] if self.own.get("use_feats") else 0), *widths[1:]]
        return [Dense(a, b, self.dropout, self.act, self.bias) for a, b in pairwise(widths)]

    def geometry(self) -> Any:
        """geoopt's manifold of the table, which the optimizer follows by the exponential map; a trained curvature moves it."""
        c = self.exact_c or 1.0
        if self.space_name == "PoincareBall":
            return _FollowingBall(self.c) if self.learn_c else made("PoincareBallExact", c)
        if self.space_name == "Hyperboloid":
            return _FollowingHyperboloid(self.c) if self.learn_c else made("Lorentz", 1 / c)
        return geoopt.Euclidean(1)

    def start(self, x: Tensor) -> Tensor:
        """The table [n, d], with the features beside it if they are used."""
        return torch.cat([self.encoder.lt, x], 1) if self.own.get("use_feats") else self.encoder.lt  # pyright: ignore[reportReturnType, reportArgumentType, reportCallIssue]
