"""The nets of HypLL's tutorials (van Spengler et al., "HypLL: The Hyperbolic Learning Library", 2023): two for images, and embeddings.

Images come as tangent vectors at the origin with channels last, as pixels are, and are mapped to the ball first. The outputs of the nets
for images are points, whose coordinates the tutorials take as logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int

from port_jax.checks import as_indices, as_numbers
from port_jax.initializers import normal
from port_jax.layers.convolution import PoincareConv2d
from port_jax.layers.hypll import ConstrainedBall, HAvgPool2d, HBatchNorm, HFlatten, HMaxPool2d, constrained_ball
from port_jax.layers.linear import PoincareLinear
from port_jax.layers.pointwise import TangentActivation
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.types import ManifoldTree, Params

__all__ = ["HypLLConvNet", "HypLLEmbedding", "HypLLResNet", "ResidualBlock"]

Images = Float[Array, "n h w channels"]


class _OnBall:
    """What the nets share: the ball, of a fixed curvature c, or with `learnable_curvature` of the parameter `manifold/value`."""

    curvature: float
    learnable_curvature: bool
    constraint: str

    def space(self) -> ConstrainedBall:
        """The ball of all layers as a module, which each of the nets has under the name `manifold`."""
        return ConstrainedBall(self.curvature, self.learnable_curvature, self.constraint)

    def ball_of(self, params: Params) -> PoincareBall:
        """The ball at given parameters."""
        if not self.learnable_curvature:
            return PoincareBall(self.curvature)
        return constrained_ball(self.constraint, params["manifold"]["value"])

    def manifolds(self, params: Params) -> ManifoldTree:
        """All parameters are Euclidean: biases are tangent vectors at the origin."""
        return {name: Euclidean() for name in params}


class HypLLConvNet(_OnBall, nn.Module):
    """Convolutions `conv1`, `conv2`, ... with max pooling between them, then linear layers `fc1`, `fc2`, ... of the beta concatenation.

    channels, kernels, paddings, pools: of each convolution the number of channels, the size of its square kernel, the padding, and the
    size of the max pooling after it, 0 for none. widths: of the linear layers, the last one the number of classes. ReLU in the tangent
    space at the origin follows every layer but the last. The tutorial's net is ((6, 16), (120, 84, 10), (5, 5), (0, 0), (2, 2)).
    """

    channels: Sequence[int] = (6, 16)
    widths: Sequence[int] = (120, 84, 10)
    kernels: Sequence[int] = (5, 5)
    paddings: Sequence[int] = (0, 0)
    pools: Sequence[int] = (2, 2)
    curvature: float = 1.0
    learnable_curvature: bool = False
    constraint: str = "softplus"

    def setup(self) -> None:
        self.manifold = self.space()
        for n, (wide, size, pad) in enumerate(zip(self.channels, self.kernels, self.paddings, strict=True), 1):
            setattr(self, f"conv{n}", PoincareConv2d(wide, (size, size), padding=(pad, pad)))
        for n, wide in enumerate(self.widths, 1):
            setattr(self, f"fc{n}", PoincareLinear(wide))
        for n, size in enumerate(self.pools, 1):
            setattr(self, f"pool{n}", HMaxPool2d((size, size)))
        self.relu, self.flatten = TangentActivation(jax.nn.relu), HFlatten()

    def encode(self, images: Images) -> Float[Array, "n d"]:
        """The points before the last layer."""
        ball, relu = self.manifold(), self.relu
        h = ball.expmap0(as_numbers("images", images))
        for n, size in enumerate(self.pools, 1):
            h = relu(ball, getattr(self, f"conv{n}")(ball, h))
            h = getattr(self, f"pool{n}")(ball, h) if size else h
        h = self.flatten(ball, h)
        for n in range(1, len(self.widths)):
            h = relu(ball, getattr(self, f"fc{n}")(ball, h))
        return h

    def __call__(self, images: Images) -> Float[Array, "n classes"]:
        """Points whose coordinates are the logits."""
        return self.classify(self.encode(images))

    def classify(self, h: Float[Array, "n d"]) -> Float[Array, "n classes"]:
        """The last layer of what `encode` gives."""
        return getattr(self, f"fc{len(self.widths)}")(self.manifold(), h)


class ResidualBlock(nn.Module):
    """relu((norm conv relu norm conv x) ⊕ x), where x goes through a convolution of 1 x 1 if the first convolution has strides.

    Parameters: `conv1`, `bn1`, `conv2`, `bn2`, and with strides `downsample`. ReLU is that of the tangent space at the origin, and the sum
    is not projected.
    """

    features: int
    strides: int = 1
    use_midpoint: bool = False

    @nn.compact
    def __call__(self, ball: PoincareBall, x: Float[Array, "n h w d"]) -> Float[Array, "n i j e"]:
        relu, strides = TangentActivation(jax.nn.relu), (self.strides, self.strides)
        h = PoincareConv2d(self.features, (3, 3), strides, (1, 1), name="conv1")(ball, x)
        h = relu(ball, HBatchNorm(self.use_midpoint, name="bn1")(ball, h))
        h = PoincareConv2d(self.features, (3, 3), padding=(1, 1), name="conv2")(ball, h)
        h = HBatchNorm(self.use_midpoint, name="bn2")(ball, h)
        if self.strides > 1:
            x = PoincareConv2d(self.features, (1, 1), strides, name="downsample")(ball, x)
        return relu(ball, ball.mobius_add(h, x, project=False))


class HypLLResNet(_OnBall, nn.Module):
    """A residual network: `conv`, `bn`, groups of blocks `group1_0`, `group1_1`, ..., the mean over the whole image, and a linear `fc`.

    channels, depths: of each group the number of channels, and of blocks. The first block of every group but the first halves the image.
    use_midpoint: whether batch norm takes the gyro-midpoint in the place of the Fréchet mean, and pool_midpoint: whether pooling does; None
    for the same. Batch norm has **the statistics of the batch in evaluation as well**.
    """

    channels: Sequence[int] = (4, 8, 16)
    depths: Sequence[int] = (3, 3, 3)
    num_classes: int = 10
    use_midpoint: bool = False
    pool_midpoint: bool | None = None
    curvature: float = 1.0
    learnable_curvature: bool = False
    constraint: str = "softplus"

    def setup(self) -> None:
        self.manifold = self.space()
        self.conv = PoincareConv2d(self.channels[0], (3, 3), padding=(1, 1))
        self.bn = HBatchNorm(self.use_midpoint)
        for g, (wide, depth) in enumerate(zip(self.channels, self.depths, strict=True), 1):
            for n in range(depth):
                setattr(self, f"group{g}_{n}", ResidualBlock(wide, 2 if g > 1 and n == 0 else 1, self.use_midpoint))
        by_midpoint = self.use_midpoint if self.pool_midpoint is None else self.pool_midpoint
        self.avg_pool = HAvgPool2d(use_midpoint=by_midpoint)
        self.fc, self.relu = PoincareLinear(self.num_classes), TangentActivation(jax.nn.relu)

    def encode(self, images: Images) -> Float[Array, "n d"]:
        """The means of the images."""
        ball = self.manifold()
        h = ball.expmap0(as_numbers("images", images))
        h = self.relu(ball, self.bn(ball, self.conv(ball, h)))
        for g, depth in enumerate(self.depths, 1):
            for n in range(depth):
                h = getattr(self, f"group{g}_{n}")(ball, h)
        return self.avg_pool(ball, h)[:, 0, 0]

    def __call__(self, images: Images) -> Float[Array, "n classes"]:
        """Points whose coordinates are the logits."""
        return self.classify(self.encode(images))

    def classify(self, h: Float[Array, "n d"]) -> Float[Array, "n classes"]:
        """The last layer of what `encode` gives."""
        return self.fc(self.manifold(), h)


class HypLLEmbedding(_OnBall, nn.Module):
    """A table of points, the parameter `embedding` [num_embeddings, features], and the distances of pairs of its rows."""

    num_embeddings: int
    features: int
    curvature: float = 1.0
    learnable_curvature: bool = False
    constraint: str = "softplus"

    def setup(self) -> None:
        self.manifold = self.space()
        self.embedding = self.param("embedding", normal(PoincareBall(self.curvature), 1.0), (self.num_embeddings, self.features))

    def encode(self) -> Float[Array, "n d"]:
        """All points."""
        return self.embedding

    def __call__(self, edges: Int[Array, "*batch 2"]) -> Float[Array, "*batch"]:
        """The distances of the two ends of each edge."""
        ends = self.embedding[as_indices("edges", edges)]
        return self.manifold().dist(ends[..., 0, :], ends[..., 1, :])

    def manifolds(self, params: Params) -> ManifoldTree:
        """The table lies on the ball; the raw curvature, where it is trained, is flat."""
        return {name: self.ball_of(params) if name == "embedding" else Euclidean() for name in params}
