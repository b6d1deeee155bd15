"""What the models of HGCN's code base share: settings, input, curvatures, and decoders for node classes (nc) and links (lp)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from port_jax.checks import as_features, as_indices, as_numbers, require_choice
from port_jax.graphs import Graph
from port_jax.layers.activations import ACTIVATIONS
from port_jax.layers.decoders import fermi_dirac
from port_jax.layers.gcn import Dense
from port_jax.layers.hgcn import SPACES, space
from port_jax.manifolds import Euclidean, Manifold
from port_jax.primitives import rows_at
from port_jax.types import ManifoldTree, Params

__all__ = ["FARTHEST", "NodeModel"]

FARTHEST = 50.0
"""HGCN's upper bound of squared distances on the hyperboloid before the Fermi-Dirac decoder."""


class _Trained(nn.Module):
    """A curvature that is trained without a raw form: the parameter `c` [1], initially 1."""

    @nn.compact
    def __call__(self) -> Float[Array, " one"]:
        return self.param("c", nn.initializers.ones, (1,))


class NodeModel(nn.Module):
    """Settings under HGCN's names, encoder layers, and a decoder. Subclasses define the layers.

    Task nc has num_layers - 1 encoder layers and a classifier, lp has num_layers layers and Fermi-Dirac probabilities of links.
    `feat_dim` is the width of the first layer's input: on the Hyperboloid one more than the width of the features, before which a
    zero is put. `c=None` trains the curvatures, as parameters `manifolds_{l}/c`; the last one is that of the embeddings.
    """

    feat_dim: int
    dim: int = 16
    num_layers: int = 2
    task: str = "nc"
    n_classes: int | None = None
    manifold: str = "Euclidean"
    c: float | None = 1.0
    act: str | None = "relu"
    bias: bool = True
    dropout: float = 0.0
    r: float = 2.0
    t: float = 1.0

    def __post_init__(self) -> None:
        require_choice("task", self.task, ("nc", "lp"))
        require_choice("manifold", self.manifold, SPACES)
        require_choice("act", self.act or "none", tuple(ACTIVATIONS))
        if self.c is not None and not self.c > 0:
            raise ValueError(f"c: found {self.c}; give a positive number, or None to train the curvature")
        if self.depth < 0 or (self.task == "nc" and not self.n_classes):
            raise ValueError(
                f"num_layers={self.num_layers}, n_classes={self.n_classes}: nc takes num_layers >= 1 and n_classes >= 1, lp num_layers >= 0"
            )
        super().__post_init__()

    @property
    def depth(self) -> int:
        """The number of encoder layers."""
        return self.num_layers if self.task == "lp" else self.num_layers - 1

    @property
    def curvatures(self) -> int:
        """The number of curvatures: one, or in HGCN one before each layer and one after the last."""
        return 1

    def setup(self) -> None:
        if self.c is None:
            for l in range(self.curvatures):
                setattr(self, f"manifolds_{l}", _Trained())
        self.layers = [self.layer(i) for i in range(self.depth)]
        self.decoder = self.classifier() if self.task == "nc" else None

    # What subclasses define.

    def layer(self, i: int) -> nn.Module:
        """Encoder layer i."""
        raise NotImplementedError

    def classifier(self) -> nn.Module:
        """The classifier: a linear map of log_0(h)."""
        return Dense(self.n_classes or 0, use_bias=self.bias, dropout=self.dropout)

    def run(self, x: Float[Array, "n in"], graph: Graph, deterministic: bool) -> Float[Array, "n dim"]:
        """The input passed through the layers."""
        for layer in self.layers:
            x = layer(x, graph, deterministic)
        return x

    def read(self, h: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
        """The input of the classifier: log_0(h)."""
        manifold = self._at(-1)
        return manifold.from_coordinates0(manifold.to_tangent0(h))

    def square(self, manifold: Manifold, a: Float[Array, "p dim"], b: Float[Array, "p dim"]) -> Float[Array, " p"]:
        """Squared distance: at most 50 on the hyperboloid, and in flat space between rows shortened to length 1 if they are longer."""
        if manifold.flat:
            return ((_shortened(a) - _shortened(b)) ** 2).sum(-1)
        square = manifold.dist2(a, b)
        return jnp.minimum(square, FARTHEST) if self.manifold == "Hyperboloid" else square

    # What users call.

    def encode(self, x: Float[Array, "n in"], graph: Graph, deterministic: bool = True) -> Float[Array, "n dim"]:
        """Node embeddings. Unless `deterministic`, connections or features are dropped by the stream "dropout"."""
        hyperboloid = self.manifold == "Hyperboloid"
        x = as_features("x", x, (graph.num_nodes, self.feat_dim - hyperboloid))
        if self.c is None:  # files of every model contain the trained curvatures, whether the model uses them or not
            for l in range(self.curvatures):
                self._at(l)
        return self.run(jnp.pad(x, ((0, 0), (1, 0))) if hyperboloid else x, graph, deterministic)

    def __call__(self, x: Float[Array, "n in"], graph: Graph, deterministic: bool = True) -> Float[Array, "n out"]:
        """Class logits for nc, embeddings for lp."""
        h = self.encode(x, graph, deterministic)
        return h if self.decoder is None else self.decoder(self.read(h), graph, deterministic)

    def score(self, h: Float[Array, "n dim"], pairs: Int[Array, "p 2"]) -> Float[Array, " p"]:
        """Probability 1 / (exp((d^2 - r) / t) + 1) of each link, with d^2 by `square`."""
        manifold, h, pairs = self._at(-1), as_numbers("h", h), as_indices("pairs", pairs)
        return fermi_dirac(self.square(manifold, rows_at(h, pairs[:, 0]), rows_at(h, pairs[:, 1])), self.r, self.t)

    def manifolds(self, params: Params) -> ManifoldTree:
        """The prefix tree of manifolds over `params` that the Riemannian optimizers take."""
        return {name: Euclidean() for name in params}

    def manifold_at(self, l: int, params: Params) -> Manifold:
        """Manifold l at these parameters; -1 is that of the embeddings."""
        l = range(self.curvatures)[l]
        return space(self.manifold, float(self.c) if self.c is not None else params[f"manifolds_{l}"]["c"])

    def _at(self, l: int) -> Manifold:
        c = float(self.c) if self.c is not None else getattr(self, f"manifolds_{range(self.curvatures)[l]}")()
        return space(self.manifold, c)


def _shortened(h: Float[Array, "p dim"]) -> Float[Array, "p dim"]:
    """h / (|h| + 1e-7) where |h| > 1, as torch's renorm computes it."""
    square = (h * h).sum(-1, keepdims=True)
    return jnp.where(square > 1, h / (jnp.sqrt(jnp.where(square > 1, square, 1)) + 1e-7), h)
