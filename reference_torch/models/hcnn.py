"""HyperbolicCV's classifier: a residual network on a hyperboloid or an ordinary one, and a classifier on its own manifold.

Its images have their channels last, and become those of the original at the entrance. What the training script sets apart for its
optimizer is in `parameter_groups`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import geoopt
import torch
from torch import Tensor, nn

from reference_torch.layers import hcnn
from reference_torch.layers.hcnn import Hyperboloid

EXPANSION = {"basic": 1, "bottleneck": 4}


def convolution(manifold: Hyperboloid | None, channels: int, features: int, size: int, stride: int = 1) -> list[nn.Module]:
    """A convolution and its batch norm."""
    if manifold is None:
        return [nn.Conv2d(channels, features, size, stride, size // 2, bias=False), nn.BatchNorm2d(features)]
    return [hcnn.LorentzConv2d(manifold, channels, features, size, stride), hcnn.LorentzBatchNorm(manifold, features)]


def activation(manifold: Hyperboloid | None) -> nn.Module:
    """ReLU."""
    return nn.ReLU() if manifold is None else hcnn.LorentzReLU(manifold)


class Entrance(nn.Module):
    """The first block on a hyperboloid."""

    def __init__(self, manifold: Hyperboloid, channels: int, features: int):
        super().__init__()
        self.manifold = manifold
        self.conv = nn.Sequential(*convolution(manifold, channels, features, 3), activation(manifold))

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, channels, h, w] to points [n, h, w, features + 1]."""
        return self.conv(self.manifold.lift(images.movedim(1, -1)))


class Block(nn.Module):
    """A residual block: basic, or with a bottleneck."""

    def __init__(self, manifold: Hyperboloid | None, channels: int, features: int, stride: int, kind: str):
        super().__init__()
        if manifold is not None:
            self.manifold = manifold
        self.activation, wide = activation(manifold), EXPANSION[kind] * features
        layers = convolution(manifold, channels, features, *((3, stride) if kind == "basic" else (1, 1)))
        if kind == "bottleneck":
            layers += [self._between(manifold), *convolution(manifold, features, features, 3, stride)]
        layers += [self._between(manifold), *convolution(manifold, features, wide, 3 if kind == "basic" else 1)]
        self.conv = nn.Sequential(*layers)
        short = convolution(manifold, channels, wide, 1, stride) if stride != 1 or channels != wide else []
        self.shortcut = nn.Sequential(*short)

    def _between(self, manifold: Hyperboloid | None) -> nn.Module:
        return self.activation if manifold is None else activation(manifold)

    def forward(self, x: Tensor) -> Tensor:
        """The activation of the sum of both ways."""
        short, long = self.shortcut(x), self.conv(x)
        if isinstance(self.activation, nn.ReLU):
            return self.activation(long + short)
        return self.activation(self.manifold.lift(long[..., 1:] + short[..., 1:]))


class ResNet(nn.Module):
    """The encoder."""

    def __init__(self, manifold: Hyperboloid | None, channels: int, widths: Sequence[int], blocks: Sequence[int], kind: str):
        super().__init__()
        if manifold is not None:
            self.manifold = manifold
            self.conv1: nn.Module = Entrance(manifold, channels, widths[0])
        else:
            self.conv1 = nn.Sequential(*convolution(None, channels, widths[0], 3), activation(None))
        self.groups, inward = [f"conv{group}_x" for group in range(2, 2 + len(widths))], widths[0]
        for name, wide, count in zip(self.groups, widths, blocks, strict=True):
            layers = []
            for n in range(count):
                layers.append(Block(manifold, inward, wide, 2 if name != self.groups[0] and n == 0 else 1, kind))
                inward = wide * EXPANSION[kind]
            setattr(self, name, nn.Sequential(*layers))
        self.avg_pool = nn.AdaptiveAvgPool2d((1, 1)) if manifold is None else hcnn.LorentzGlobalAvgPool2d(manifold)
        self.features = inward

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, channels, h, w] to features [n, d], or points [n, d + 1]."""
        x = self.conv1(images)
        for name in self.groups:
            x = getattr(self, name)(x)
        return self.avg_pool(x).flatten(1)


class HCNN(nn.Module):
    """The classifier, with the settings of `weights.models.hcnn`."""

    def __init__(self, of: Mapping[str, Any]):
        super().__init__()
        self.of = dict(of)
        learn, kinds = bool(of["learn_k"]), (of["encoder_manifold"], of["decoder_manifold"])
        space = Hyperboloid(k=float(of["encoder_k"]), learnable=learn) if kinds[0] == "lorentz" else None
        self.encoder = ResNet(space, of["in_channels"], [*of["widths"], of["embedding_dim"]], of["num_blocks"], of["block"])
        if space is not None:
            self.enc_manifold = space
        wide, classes = self.encoder.features, of["classes"]
        if kinds[1] == "lorentz":
            self.dec_manifold = Hyperboloid(k=float(of["decoder_k"]), learnable=learn)
            self.decoder: nn.Module = hcnn.LorentzMLR(self.dec_manifold, wide, classes)
        elif kinds[1] == "poincare":
            self.dec_manifold = geoopt.PoincareBall(c=float(of["decoder_k"]), learnable=learn)
            self.decoder = hcnn.UnidirectionalPoincareMLR(self.dec_manifold, wide, classes)
        else:
            self.decoder = nn.Linear(wide, classes)

    def placed(self, x: Tensor) -> Tensor:
        """Features or points as points of the classifier's manifold."""
        kinds = self.of["encoder_manifold"], self.of["decoder_manifold"]
        if kinds[0] == "euclidean" and kinds[1] != "euclidean":
            x = torch.minimum(torch.ones_like(x[..., :1]), self.of["clip_features"] / x.norm(dim=-1, keepdim=True)) * x
            if isinstance(self.dec_manifold, Hyperboloid):
                return self.dec_manifold.bounded_exp0(nn.functional.pad(x, (1, 0)))
            return self.dec_manifold.expmap0(x)
        if kinds == ("lorentz", "euclidean"):
            return self.enc_manifold.logmap0(x)[..., 1:]
        if kinds == ("lorentz", "lorentz") and self.enc_manifold.k != self.dec_manifold.k:
            assert isinstance(self.dec_manifold, Hyperboloid)
            return self.dec_manifold.bounded_exp0(self.enc_manifold.logmap0(x))
        return x

    def encode(self, images: Tensor) -> Tensor:
        """What is classified, of images [n, h, w, channels]."""
        return self.placed(self.encoder(images.movedim(-1, 1)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, classes]."""
        return self.classify(self.encode(images))

    def classify(self, h: Tensor) -> Tensor:
        """The logits of what `encode` gives."""
        return self.decoder(h)

    def train_logits(self, images: Tensor) -> Tensor:
        """The logits in training; running statistics stay as they are."""
        before = self.training
        copies = {name: value.clone() for name, value in self.named_buffers()}
        logits = torch.func.functional_call(self.train(), copies, (images,))
        self.train(before)
        return logits

    def parameter_groups(self, lr: float, weight_decay: float, gamma: float) -> list[dict[str, Any]]:
        """The script's three groups: flat parameters; points at the rate lr gamma; radii at 1e-4 without decay. A ball's isp_c is flat."""
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        points = [p for _, p in named if isinstance(p, geoopt.ManifoldParameter)]
        radii = [p for name, p in named if "manifold.k" in name]
        apart = {id(p) for p in (*points, *radii)}
        flat = [p for name, p in named if id(p) not in apart and "scale" not in name]
        return [{"params": flat}, {"params": points, "lr": lr * gamma, "weight_decay": weight_decay},
                {"params": radii, "weight_decay": 0, "lr": 1e-4}]  # fmt: skip
