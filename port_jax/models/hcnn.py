"""The residual networks of HyperbolicCV (Bdeir et al., "Fully hyperbolic convolutional neural networks for computer vision", 2024).

An encoder, on a hyperboloid or an ordinary one, and a classifier on a hyperboloid, a ball or flat space. With an ordinary encoder and a
hyperbolic classifier it is their hybrid (Guo et al., "Clipped hyperbolic classifiers", 2022). Images have their channels last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.checks import as_numbers, require_choice
from port_jax.initializers import symmetric
from port_jax.layers.batch_norm import LorentzBatchNorm
from port_jax.layers.convolution import LorentzConv2d
from port_jax.layers.hyperplanes import LorentzMLR, PoincareMLR
from port_jax.layers.learnable_curvature import Curved, manifold_of
from port_jax.layers.pointwise import SpaceActivation
from port_jax.layers.pooling import MidpointPool
from port_jax.layers.residual import SpaceResidual
from port_jax.layers.standard import BatchNorm
from port_jax.manifolds import Euclidean, Manifold
from port_jax.manifolds.hyperboloid.ambient import exp0, log0
from port_jax.manifolds.row_products import shortening
from port_jax.types import ManifoldTree, Params

__all__ = ["BLOCKS", "DECODERS", "ENCODERS", "HCNN", "HCNNBlock", "HCNNEncoder"]

Images = Float[Array, "n h w channels"]
Points = Float[Array, "n ambient"]

ENCODERS = ("lorentz", "euclidean")
DECODERS = ("lorentz", "poincare", "euclidean")
BLOCKS = {"basic": ((3, 1, 1), (3, 0, 1)), "bottleneck": ((1, 0, 1), (3, 1, 1), (1, 0, 4))}
"""Of each convolution of a block the size of its kernel, whether it has the block's strides, and by what its channels are multiplied."""
KINDS = {"lorentz": "Lorentz", "poincare": "PoincareBall"}


def _convolved(manifold: Manifold | None, x: Array, features: int, size: int, strides: int, train: bool, names: tuple[str, str]) -> Array:
    """A convolution and its batch norm, in the modules of the block that calls this. Without a manifold they are ordinary ones."""
    kernel, step, pad = (size, size), (strides, strides), (size // 2, size // 2)
    if manifold is None:
        start = symmetric((x.shape[-1] * size**2) ** -0.5)
        conv = nn.Conv(features, kernel, step, [pad, pad], use_bias=False, kernel_init=start, name=names[0])
        return BatchNorm(name=names[1])(conv(x), use_running_average=not train)
    start = symmetric((2 / ((x.shape[-1] - 1) * size**2)) ** 0.5)
    conv = LorentzConv2d(features, kernel, step, pad, with_time=True, kernel_init=start, bias_init=start, name=names[0])
    return LorentzBatchNorm(as_trained=True, name=names[1])(manifold, conv(manifold, x), use_running_average=not train)


def _relu(manifold: Manifold | None, x: Array) -> Array:
    return jax.nn.relu(x) if manifold is None else SpaceActivation()(manifold, x)


class HCNNBlock(nn.Module):
    """relu(norm conv ... relu norm conv x + x), the sum of space parts on a hyperboloid; without a manifold, that of ordinary networks.

    Where the shape changes, x goes through a convolution of 1 x 1 and a batch norm. The convolutions are those of `BLOCKS[kind]`, and
    `features` are the channels before the last of them is multiplied. Parameters: `conv_0` and `conv_1` (a convolution and its batch norm),
    `conv_3` and `conv_4`, of a bottleneck `conv_6` and `conv_7`, by their positions in the originals, where the activations have one, too;
    `shortcut_0` and `shortcut_1`.
    """

    features: int
    strides: int = 1
    kind: str = "basic"

    @nn.compact
    def __call__(self, manifold: Manifold | None, x: Float[Array, "n h w c"], train: bool = False) -> Float[Array, "n i j e"]:
        h, layers = x, BLOCKS[self.kind]
        for n, (size, strided, times) in enumerate(layers):
            strides, names = self.strides if strided else 1, (f"conv_{3 * n}", f"conv_{3 * n + 1}")
            h = _convolved(manifold, h, times * self.features, size, strides, train, names)
            h = _relu(manifold, h) if n + 1 < len(layers) else h
        if self.strides > 1 or x.shape[-1] != h.shape[-1]:
            x = _convolved(manifold, x, layers[-1][2] * self.features, 1, self.strides, train, ("shortcut_0", "shortcut_1"))
        return _relu(manifold, h + x if manifold is None else SpaceResidual()(manifold, h, x))


class HCNNEncoder(nn.Module):
    """A convolution with batch norm and ReLU, groups of blocks, of which all but the first halve the image, and the mean over it.

    widths: the channels of the groups. blocks: how many blocks each has. On a hyperboloid pixels are lifted to it, x_t =
    sqrt(k + |x_s|²), and the mean is the centroid. Parameters: `conv1/conv_0` and `conv1/conv_1`, and `conv2_x_0`, `conv2_x_1`, ...,
    `conv3_x_0`, ..., `conv5_x_0`, ..., which are `HCNNBlock`s.
    """

    widths: Sequence[int]
    blocks: Sequence[int]
    kind: str = "basic"

    @nn.compact
    def __call__(self, manifold: Manifold | None, images: Images, train: bool = False) -> Points:
        x = images if manifold is None else manifold.projx(manifold.from_coordinates0(images))
        x = _relu(manifold, _Entrance(self.widths[0], name="conv1")(manifold, x, train))
        for group, (wide, count) in enumerate(zip(self.widths, self.blocks, strict=True), 2):
            for n in range(count):
                strides = 2 if group > 2 and n == 0 else 1
                x = HCNNBlock(wide, strides, self.kind, name=f"conv{group}_x_{n}")(manifold, x, train)
        return x.mean((1, 2)) if manifold is None else MidpointPool((1, 2))(manifold, x)


class _Entrance(nn.Module):
    features: int

    @nn.compact
    def __call__(self, manifold: Manifold | None, x: Array, train: bool) -> Array:
        return _convolved(manifold, x, self.features, 3, 1, train, ("conv_0", "conv_1"))


class HCNN(nn.Module):
    """Logits of images.

    num_classes; embedding_dim: the channels of the last group, which a bottleneck multiplies by 4. widths: those of the groups before.
    blocks: of each group. encoder_k: the k of the encoder's hyperboloid, of curvature -1/k; decoder_k: that of the
    classifier's, or the **c of its ball**, of curvature -c. learn_k: whether they are trained, as `encoder_space/k` and
    `decoder_space/k` or `decoder_space/isp_c`, c = softplus(isp_c). clip_features: the length at which the features of an ordinary
    encoder are cut before they are mapped to a hyperboloid or ball. points: whether the optimizer keeps each `beta` on its hyperboloid, as
    Riemannian ones do.

    Between hyperboloids of different radii points go by exp_0 log_0. With trained radii the originals compare their values each time, and
    where they are equal x passes as it is, and its derivative has no part by the radii; so does it here.
    """

    num_classes: int
    embedding_dim: int = 512
    widths: Sequence[int] = (64, 128, 256)
    blocks: Sequence[int] = (2, 2, 2, 2)
    block: str = "basic"
    encoder_manifold: str = "lorentz"
    decoder_manifold: str = "lorentz"
    encoder_k: float = 1.0
    decoder_k: float = 1.0
    learn_k: bool = False
    clip_features: float = 1.0
    points: bool = True

    def __post_init__(self) -> None:
        require_choice("encoder_manifold", self.encoder_manifold, ENCODERS)
        require_choice("decoder_manifold", self.decoder_manifold, DECODERS)
        require_choice("block", self.block, tuple(BLOCKS))
        if self.encoder_manifold == "lorentz" and self.decoder_manifold == "poincare":
            raise ValueError("decoder_manifold is 'poincare' after an encoder on a hyperboloid, which HyperbolicCV has not; take 'lorentz'")
        super().__post_init__()

    def setup(self) -> None:
        self.encoder = HCNNEncoder((*self.widths, self.embedding_dim), self.blocks, self.block)
        self.encoder_space = self._curved(self.encoder_manifold, self.encoder_k)
        self.decoder_space = self._curved(self.decoder_manifold, self.decoder_k)
        self.decoder = self._decoder()

    def _decoder(self) -> nn.Module:
        """The classifier, which begins with the authors' laws."""
        wide = self.embedding_dim * BLOCKS[self.block][-1][2]
        if self.decoder_manifold == "poincare":
            return PoincareMLR(self.num_classes, weight_norm=True, kernel_init=nn.initializers.normal((wide * self.decoder_k) ** -0.5))
        kind, start = LorentzMLR if self.decoder_manifold == "lorentz" else nn.Dense, symmetric(wide**-0.5)
        return kind(self.num_classes, kernel_init=start, bias_init=start)

    def _curved(self, kind: str, curvature: float) -> Curved | None:
        return None if kind == "euclidean" else Curved(KINDS[kind], curvature, self.learn_k)

    def _spaces(self) -> tuple[Any, Any]:
        """The manifolds of the encoder and of the classifier, None for flat space."""
        space, goal = self.encoder_space, self.decoder_space
        return None if space is None else space(), None if goal is None else goal()

    def encode(self, images: Images, train: bool = False) -> Points:
        """What is classified: points of the classifier's manifold. `train`: the statistics of the batch in the place of running ones."""
        return self.placed(self.encoder(self._spaces()[0], as_numbers("images", images), train))

    def placed(self, x: Points) -> Points:
        """Features, or points of the encoder's manifold, as points of that of the classifier."""
        space, goal = self._spaces()
        if goal is None:
            return x if space is None else log0(x, space.k)
        if space is None:
            cut = x * shortening(x, jnp.asarray(self.clip_features**2, x.dtype))
            return exp0(cut, goal.k) if goal.ambient else goal.from_tangent0(cut)
        return jnp.where(jnp.asarray(space.k) == goal.k, x, exp0(log0(x, space.k), goal.k))

    def __call__(self, images: Images, train: bool = False) -> Float[Array, "n classes"]:
        """Logits. With `train` and `mutable=["batch_stats"]` the running statistics are written."""
        return self.classify(self.encode(images, train))

    def classify(self, h: Points) -> Float[Array, "n classes"]:
        """The logits of what `encode` gives."""
        goal = self._spaces()[1]
        return self.decoder(h) if goal is None else self.decoder(goal, h)

    def train_logits(self, images: Images) -> Float[Array, "n classes"]:
        """The logits in training; the running statistics stay as they are."""
        module, variables = self.unbind()
        return module.apply(variables, images, train=True, mutable=["batch_stats"])[0]  # pyright: ignore[reportReturnType]

    def manifolds(self, params: Params) -> ManifoldTree:
        """Each `beta` lies on the encoder's hyperboloid; everything else is flat."""
        raw = params.get("encoder_space")
        hyperbolic = self.points and self.encoder_manifold == "lorentz"
        space = manifold_of("Lorentz", self.encoder_k, raw) if hyperbolic else Euclidean()
        return jax.tree_util.tree_map_with_path(lambda path, _: space if path[-1].key == "beta" else Euclidean(), params)

    def classifier_space(self, variables: Params) -> Manifold:
        """The manifold of what `encode` gives."""
        if self.decoder_manifold == "euclidean":
            return Euclidean()
        return manifold_of(KINDS[self.decoder_manifold], self.decoder_k, variables["params"].get("decoder_space"))
