"""Poincaré ResNet (van Spengler et al., ICCV 2023): a residual network whose layers map tangent vectors at the origin to such vectors."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from port_jax.checks import as_numbers, require_choice
from port_jax.layers.learnable_curvature import Curved
from port_jax.layers.poincare_resnet import PoincareTangentConv2d, PoincareTangentLinear, TangentBatchNorm, WidthResidual
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.types import ManifoldTree, Params

__all__ = ["SKIPS", "PoincareResNet", "TangentResidualBlock"]

SKIPS = ("fr", "rf")
"""The orders of the Moebius sum: f(x) ⊕ x, or x ⊕ f(x)."""


class TangentResidualBlock(nn.Module):
    """relu of the Moebius sum of norm conv relu norm conv u and u, where u goes through a convolution of 1 x 1 if there are strides.

    Parameters: `conv1`, `bn1`, `conv2`, `bn2`, and with strides `downsample`; with a learnable curvature also `ball1` of the first
    convolution, `ball2` of the second, `bn_ball` of both norms, and `downsample_ball`. The ball of the sum is that of `curvature`, always.
    """

    features: int
    strides: int = 1
    curvature: float = 0.1
    learnable_curvature: bool = False
    skip_connection: str = "fr"
    use_midpoint: bool = True
    exact_distance: bool = False
    slip: str = "none"

    @nn.compact
    def __call__(self, u: Float[Array, "n h w d"]) -> Float[Array, "n i j e"]:
        strides, exact = (self.strides, self.strides), self.exact_distance
        learned = self.learnable_curvature
        balls = {name: Curved("PoincareBall", self.curvature, learned, name=name)() for name in ("ball1", "ball2", "bn_ball")}
        norms = [TangentBatchNorm(self.use_midpoint, self.slip, name=name) for name in ("bn1", "bn2")]
        f = PoincareTangentConv2d(self.features, (3, 3), strides, (1, 1), exact, name="conv1")(balls["ball1"], u)
        f = jax.nn.relu(norms[0](balls["bn_ball"], f))
        f = PoincareTangentConv2d(self.features, (3, 3), (1, 1), (1, 1), exact, name="conv2")(balls["ball2"], f)
        f = norms[1](balls["bn_ball"], f)
        if self.strides > 1:
            ball = Curved("PoincareBall", self.curvature, learned, name="downsample_ball")()
            u = PoincareTangentConv2d(self.features, (1, 1), strides, exact_distance=exact, name="downsample")(ball, u)
        parts = (f, u) if self.skip_connection == "fr" else (u, f)
        return jax.nn.relu(WidthResidual()(PoincareBall(self.curvature), *parts))


class PoincareResNet(nn.Module):
    """`conv`, `bn`, groups of blocks `group1_0`, `group1_1`, ..., the mean of the image, and a linear layer `fc`.

    Images have channels last, and sides that the groups lead to `pool` pixels, or to less than twice as many, of which the first `pool`
    count: 32 x 32 with three groups. channels, depths: of each group the number of channels, and of blocks. The first block of every group
    but the first halves the image. curvature: c of every ball; with `learnable_curvature` that of each layer begins there, and is trained
    as c = softplus(isp_c). skip_connection: "fr" for f(x) ⊕ x, "rf" for x ⊕ f(x). use_midpoint: whether batch norm takes the gyro-midpoint,
    or the Fréchet mean. Batch norm has **the statistics of the batch in evaluation as well**.

    The network computes what the authors' code computes. exact_distance: divide by 1 - c|x|² in the distance to hyperplanes, where the code
    multiplies. exact_derivatives: the right derivative by a learnable curvature. Otherwise it is the code's, with `custom_autograd` (its
    functions with derivatives of their own) wrong in all Moebius additions of batch norm, and without it wrong in those of the variance.
    """

    channels: Sequence[int] = (8, 16, 32)
    depths: Sequence[int] = (3, 3, 3)
    num_classes: int = 10
    curvature: float = 0.1
    learnable_curvature: bool = False
    skip_connection: str = "fr"
    use_midpoint: bool = True
    pool: int = 8
    custom_autograd: bool = True
    exact_distance: bool = False
    exact_derivatives: bool = False

    def setup(self) -> None:
        require_choice("skip_connection", self.skip_connection, SKIPS)
        learned = self.learnable_curvature
        slip = "none" if not learned or self.exact_derivatives else "all" if self.custom_autograd else "variance"
        self.conv_ball, self.bn_ball, self.linear_ball = (Curved("PoincareBall", self.curvature, learned) for _ in range(3))
        self.conv = PoincareTangentConv2d(self.channels[0], (3, 3), padding=(1, 1), exact_distance=self.exact_distance)
        self.bn = TangentBatchNorm(self.use_midpoint, slip)
        for g, (wide, depth) in enumerate(zip(self.channels, self.depths, strict=True), 1):
            for n in range(depth):
                block = TangentResidualBlock(
                    wide, 2 if g > 1 and n == 0 else 1, self.curvature, learned, self.skip_connection, self.use_midpoint,
                    self.exact_distance, slip)  # fmt: skip
                setattr(self, f"group{g}_{n}", block)
        self.fc = PoincareTangentLinear(self.num_classes, self.exact_distance)

    def encode(self, images: Float[Array, "n h w channels"]) -> Float[Array, "n d"]:
        """The tangent vectors before the last layer."""
        u = as_numbers("images", images)
        u = jax.nn.relu(self.bn(self.bn_ball(), self.conv(self.conv_ball(), u)))
        for g, depth in enumerate(self.depths, 1):
            for n in range(depth):
                u = getattr(self, f"group{g}_{n}")(u)
        height, width = u.shape[1:3]
        if height // self.pool != 1 or width // self.pool != 1:
            raise ValueError(
                f"images of {images.shape[1]} x {images.shape[2]} come to {height} x {width} pixels, and the pool is "
                f"{self.pool} x {self.pool}: give images of {self.pool * 2 ** (len(self.depths) - 1)} pixels a side, or another pool"
            )
        return u[:, : self.pool, : self.pool].mean((1, 2))

    def __call__(self, images: Float[Array, "n h w channels"]) -> Float[Array, "n classes"]:
        """The logits."""
        return self.classify(self.encode(images))

    def classify(self, u: Float[Array, "n d"]) -> Float[Array, "n classes"]:
        """The logits of what `encode` gives."""
        return self.fc(self.linear_ball(), u)

    def points(self, u: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """What `encode` gives as points of the last layer's ball."""
        return self.linear_ball().expmap0(u)

    def manifolds(self, params: Params) -> ManifoldTree:
        """All parameters are Euclidean: biases and means are tangent vectors at the origin."""
        return {name: Euclidean() for name in params}
