"""Poincaré ResNet (maxvanspengler/poincare-resnet). It takes images with channels last; inside, an image has its channels on axis 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.layers import hypll
from reference_torch.layers.poincare_resnet import Ball, PoincareBatchNorm2d, PoincareConvolution2d, PoincareLinear


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm, and the Moebius sum of the result and the input, whose points are the rows along the width.

    The ball of the sum is no module, so that its curvature is in no state_dict and no optimizer.
    """

    def __init__(self, inward: int, outward: int, stride: int, isp_c: float, own: bool, learnable: bool, skip: str, use_midpoint: bool,
                 downsample: PoincareConvolution2d | None):  # fmt: skip
        super().__init__()
        first, second, norm = (Ball(isp_c, own, learnable) for _ in range(3))
        self.kept, self.skip = [Ball(isp_c, own, learnable).double()], skip
        self.conv1 = PoincareConvolution2d(inward, outward, 3, first, stride, 1)
        self.bn1 = PoincareBatchNorm2d(outward, norm, use_midpoint)
        self.conv2 = PoincareConvolution2d(outward, outward, 3, second, 1, 1)
        self.bn2 = PoincareBatchNorm2d(outward, norm, use_midpoint)
        self.downsample = downsample

    def forward(self, u: Tensor) -> Tensor:
        """Tangent vectors to tangent vectors."""
        f = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(u)))))
        u = u if self.downsample is None else self.downsample(u)
        c = self.kept[0].c().detach().to(u.dtype)
        x, y = hypll.exp0(f, c), hypll.exp0(u, c)
        summed = hypll.add(x, y, c) if self.skip == "fr" else hypll.add(y, x, c)
        return torch.relu(hypll.log0(summed, c))


class PoincareResNet(nn.Module):
    """Groups of residual blocks, the mean over `pool` x `pool` pixels, and a linear layer. own: the code's `custom_autograd`."""

    def __init__(self, channels: Sequence[int], depths: Sequence[int], num_classes: int, *, init_c: float = 0.1, own: bool = True,
                 learnable: bool = False, skip_connection: str = "fr", use_midpoint: bool = True, in_channels: int = 3,
                 pool: int = 8):  # fmt: skip
        super().__init__()
        ball = (init_c, own, learnable)
        self.conv_ball, self.bn_ball, self.linear_ball = (Ball(*ball) for _ in range(3))
        self.conv = PoincareConvolution2d(in_channels, channels[0], 3, self.conv_ball, padding=1)
        self.bn = PoincareBatchNorm2d(channels[0], self.bn_ball, use_midpoint)
        self.groups, self.pool, inward = [], pool, channels[0]
        for g, (wide, depth) in enumerate(zip(channels, depths, strict=True), 1):
            blocks = []
            for n in range(depth):
                stride = 2 if g > 1 and n == 0 else 1
                shorter = PoincareConvolution2d(inward, wide, 1, Ball(*ball), stride) if stride > 1 else None
                blocks.append(ResidualBlock(inward, wide, stride, *ball, skip_connection, use_midpoint, shorter))
                inward = wide
            setattr(self, f"group{g}", nn.Sequential(*blocks))
            self.groups.append(f"group{g}")
        self.fc = PoincareLinear(inward, num_classes, self.linear_ball)

    def encode(self, images: Tensor) -> Tensor:
        """The tangent vectors before the last layer."""
        u = torch.relu(self.bn(self.conv(images.movedim(-1, 1))))
        for name in self.groups:
            u = getattr(self, name)(u)
        return F.avg_pool2d(u, self.pool).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        return self.classify(self.encode(images))

    def classify(self, u: Tensor) -> Tensor:
        """The logits of what `encode` gives."""
        return self.fc(u)
