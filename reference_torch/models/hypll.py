"""The nets of HypLL's tutorials, as a convolutional and a residual net for images and a table of embeddings.

Their arguments are those of `port_jax.models.hypll`, and they take images with channels last, as tangent vectors at the origin; inside, an
image has its channels on axis 1. first_manifold: whether the net keeps the ball by itself, before its layers. first_downsample: whether a
block has its `downsample` before its other layers. Both say in which order the parameters are in a file.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from reference_torch.layers import hypll as hnn
from reference_torch.layers.hypll import Curvature, PoincareBall


def ball_of(value: float, constraint: str, requires_grad: bool) -> PoincareBall:
    """The ball of the curvature with this raw value."""
    return PoincareBall(Curvature(value, constraint, requires_grad))


def entered(images: Tensor, ball: PoincareBall) -> Tensor:
    """exp_0 of the pixels [n, h, w, channels], as [n, channels, h, w]."""
    return hnn.exp0(images, ball.c()).movedim(-1, 1)


class HypLLConvNet(nn.Module):
    """Convolutions with max pooling between them, and linear layers. The layers are registered as in the tutorial."""

    def __init__(self, channels: Sequence[int], widths: Sequence[int], kernels: Sequence[int], paddings: Sequence[int],
                 pools: Sequence[int], *, in_channels: int, positions: int, value: float, constraint: str = "softplus",
                 learnable_curvature: bool = False, first_manifold: bool = False):  # fmt: skip
        super().__init__()
        ball = ball_of(value, constraint, learnable_curvature)
        if first_manifold:
            self.manifold = ball
        self.pools, self.depth = list(pools), len(widths)
        for n, (wide, size, pad) in enumerate(zip(channels, kernels, paddings, strict=True), 1):
            setattr(self, f"conv{n}", hnn.HConvolution2d(in_channels, wide, size, ball, padding=pad))
            in_channels = wide
            if n == 1 and any(pools):
                self.pool = hnn.HMaxPool2d(max(pools), ball)
        inward = in_channels * positions
        for n, wide in enumerate(widths, 1):
            setattr(self, f"fc{n}", hnn.HLinear(inward, wide, ball))
            inward = wide
        self.relu = hnn.HReLU(ball)

    def encode(self, images: Tensor) -> Tensor:
        """The points before the last layer."""
        ball = self.relu.manifold
        h = entered(images, ball)
        for n, size in enumerate(self.pools, 1):
            h = self.relu(getattr(self, f"conv{n}")(h))
            h = self.pool(h) if size else h
        h = hnn.HFlatten(ball)(h)
        for n in range(1, self.depth):
            h = self.relu(getattr(self, f"fc{n}")(h))
        return h

    def forward(self, images: Tensor) -> Tensor:
        """Points whose coordinates are the logits."""
        return self.classify(self.encode(images))

    def classify(self, h: Tensor) -> Tensor:
        """The last layer."""
        return getattr(self, f"fc{self.depth}")(h)


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm, and the Moebius sum with what came in."""

    def __init__(self, inward: int, outward: int, ball: PoincareBall, stride: int, use_midpoint: bool, first_downsample: bool):
        super().__init__()
        self.manifold = ball
        shorter = hnn.HConvolution2d(inward, outward, 1, ball, stride=stride) if stride > 1 else None
        if first_downsample:
            self.downsample = shorter
        self.conv1 = hnn.HConvolution2d(inward, outward, 3, ball, stride=stride, padding=1)
        self.bn1 = hnn.HBatchNorm2d(outward, ball, use_midpoint)
        self.relu = hnn.HReLU(ball)
        self.conv2 = hnn.HConvolution2d(outward, outward, 3, ball, padding=1)
        self.bn2 = hnn.HBatchNorm2d(outward, ball, use_midpoint)
        if not first_downsample:
            self.downsample = shorter

    def forward(self, x: Tensor) -> Tensor:
        """Points to points."""
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        x = x if self.downsample is None else self.downsample(x)
        summed = hnn.add(h.movedim(1, -1), x.movedim(1, -1), self.manifold.c()).movedim(-1, 1)
        return self.relu(summed)


class HypLLResNet(nn.Module):
    """Groups of residual blocks, the mean over the image, and a linear layer."""

    def __init__(self, channels: Sequence[int], depths: Sequence[int], num_classes: int, *, in_channels: int, value: float,
                 use_midpoint: bool = False, pool_midpoint: bool | None = None, constraint: str = "softplus",
                 learnable_curvature: bool = False, first_manifold: bool = False, first_downsample: bool = True):  # fmt: skip
        super().__init__()
        ball = ball_of(value, constraint, learnable_curvature)
        if first_manifold:
            self.manifold = ball
        self.conv = hnn.HConvolution2d(in_channels, channels[0], 3, ball, padding=1)
        self.bn = hnn.HBatchNorm2d(channels[0], ball, use_midpoint)
        self.relu = hnn.HReLU(ball)
        self.groups, inward = [], channels[0]
        for g, (wide, depth) in enumerate(zip(channels, depths, strict=True), 1):
            blocks = []
            for n in range(depth):
                blocks.append(ResidualBlock(inward, wide, ball, 2 if g > 1 and n == 0 else 1, use_midpoint, first_downsample))
                inward = wide
            setattr(self, f"group{g}", nn.Sequential(*blocks))
            self.groups.append(f"group{g}")
        self.avg_pool = hnn.HAvgPool2d(None, ball, use_midpoint=use_midpoint if pool_midpoint is None else pool_midpoint)
        self.fc = hnn.HLinear(inward, num_classes, ball)

    def encode(self, images: Tensor) -> Tensor:
        """The means of the images."""
        h = self.relu(self.bn(self.conv(entered(images, self.fc.manifold))))
        for name in self.groups:
            h = getattr(self, name)(h)
        return self.avg_pool(h)[..., 0, 0]

    def forward(self, images: Tensor) -> Tensor:
        """Points whose coordinates are the logits."""
        return self.classify(self.encode(images))

    def classify(self, h: Tensor) -> Tensor:
        """The last layer."""
        return self.fc(h)


class HypLLEmbedding(hnn.HEmbedding):
    """A table of points, and the distances of the ends of edges."""

    def __init__(self, num_embeddings: int, features: int, *, value: float, constraint: str = "softplus",
                 learnable_curvature: bool = False):  # fmt: skip
        super().__init__(num_embeddings, features, ball_of(value, constraint, learnable_curvature))

    def encode(self) -> Tensor:
        """All points."""
        return self.weight

    def forward(self, edges: Tensor) -> Tensor:
        """The distances [...] of edges [..., 2]."""
        ends = super().forward(edges)
        return hnn.dist(ends[..., 0, :], ends[..., 1, :], self.manifold.c())
