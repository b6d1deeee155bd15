"""What the models of HGCN's code base share: input map, encoder, and decoders for node classes (nc) and links (lp).

Keyword arguments are that code's settings. `feat_dim` is the width that the first layer sees: one more than the features have on the
Hyperboloid, where a zero is put before them. `c=None` trains the curvatures, from 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.graphs.graph import Graph
from reference_torch.layers.decoders import fermi_dirac
from reference_torch.layers.gcn import Dense
from reference_torch.layers.hgat import ACTIVATIONS
from reference_torch.layers.hgcn_spaces import SPACES

Activation = Callable[[Tensor], Tensor]


class NodeModel(nn.Module):
    """Encoder and decoder around `build`, which a subclass gives: the layers, from the list of widths.

    Task nc has num_layers - 1 encoder layers and a classifier, lp has num_layers layers and Fermi-Dirac probabilities of links.
    """

    def __init__(self, feat_dim: int, dim: int = 16, num_layers: int = 2, *, task: str = "nc", n_classes: int | None = None,
                 manifold: str = "Euclidean", c: float | None = 1.0, act: str | None = "relu", bias: bool = True, dropout: float = 0.0,
                 r: float = 2.0, t: float = 1.0, **own):  # fmt: skip
        super().__init__()
        self.space_name, self.space = manifold, SPACES[manifold]
        self.task, self.r, self.t, self.bias, self.dropout = task, r, t, bool(bias), dropout
        self.act: Activation = ACTIVATIONS[act or "none"]
        self.own, self.dim = own, dim
        self.depth = num_layers if task == "lp" else num_layers - 1
        self.learn_c, self.exact_c = c is None, c
        self.c = self.curvature(c)
        self.encoder = nn.Module()
        self.encoder.c = self.c
        self.encoder.layers = nn.ModuleList(self.build([feat_dim] + [dim] * self.depth))
        self.decoder = None
        if task == "nc":
            self.decoder = nn.Module()
            self.decoder.c = self.c
            self.decoder.cls = self.classifier(dim, n_classes or 2)

    def curvature(self, c: float | None = None) -> Tensor:
        """A new curvature, trained if the model trains them."""
        return nn.Parameter(torch.ones(1)) if self.learn_c else torch.tensor([c if c is not None else float(self.c)])

    def _apply(self, fn, recurse: bool = True):  # fixed curvatures are no parameters, and follow the model's dtype all the same
        super()._apply(fn, recurse)
        for module in self.modules():
            for name in ("c", "c_in", "c_out"):
                if isinstance(vars(module).get(name), Tensor):  # from the number, not from its last rounding
                    setattr(module, name, fn(torch.tensor([self.exact_c], dtype=torch.float64)))
        return self

    def build(self, widths: list[int]) -> list[nn.Module]:
        """The encoder's layers between these widths."""
        raise NotImplementedError

    def classifier(self, dim: int, n_classes: int) -> nn.Module:
        """The layer from `dim` to the classes."""
        return Dense(dim, n_classes, self.dropout, ACTIVATIONS["none"], self.bias)

    def start(self, x: Tensor) -> Tensor:
        """What the first layer sees."""
        return x

    def read(self, h: Tensor) -> Tensor:
        """What the classifier sees."""
        return self.space.log0(h, self.c)

    def encode(self, x: Tensor, graph: Graph) -> Tensor:
        """Node embeddings [N, dim]."""
        h = self.start(F.pad(x, (1, 0)) if self.space.time else x)
        for layer in self.encoder.layers:  # pyright: ignore[reportGeneralTypeIssues]
            h = layer(h, graph)
        return h

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Class logits for nc, embeddings for lp."""
        h = self.encode(x, graph)
        return h if self.decoder is None else self.decoder.cls(self.read(h), graph)  # pyright: ignore[reportCallIssue]

    def score(self, h: Tensor, pairs: Tensor) -> Tensor:
        """Fermi-Dirac probabilities of the links `pairs` [P, 2]."""
        return fermi_dirac(self.space.sqdist(h[pairs[:, 0]], h[pairs[:, 1]], self.c), self.r, self.t)
