"""A small architecture with every kind of rule, for the tests of the engine."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from port_jax.manifolds import Euclidean, PoincareBall
from weights.mapping import curvature_settings
from weights.mapping.port import Port
from weights.mapping.rules import constant, linear, param, reshape, tied


class Module(nn.Module):
    width: int
    depth: int
    curvature: tuple
    scale: float

    def setup(self):
        self.dense = [nn.Dense(self.width) for _ in range(self.depth)]
        self.emb = self.param("emb", nn.initializers.normal(), (4, self.width))
        self.att = self.param("att", nn.initializers.normal(), (2, self.width))

    def __call__(self, x):
        h = x @ jnp.ones((x.shape[-1], self.width))
        for layer in self.dense:
            h = layer(h) + self.emb.sum(0) + self.att.sum(0)
        return h

    def manifolds(self, params):
        return {name: PoincareBall(self.curvature[0]) if name == "emb" else Euclidean() for name in params}


def settle(found, settings):
    settings.settle("width", found.shapes["emb"][-1], "shape of emb")
    settings.settle("depth", found.count(r"layers\.(\d+)\.weight"), "keys")
    settings.settle("scale")
    curvature_settings.settle(settings, found.raw(r"ball\.isp_c"), 1)


def rules(settings: Mapping):
    return [
        *linear("layers.{i}", "params/dense_{i}"),
        param("emb", "params/emb"),
        param("att", "params/att", reshape(2, settings["width"])),
        constant("ball.isp_c"),
        constant("steps"),
        tied("layers.{i}.ball.isp_c", "ball.isp_c"),
    ]


TOY = Port(
    name="toy",
    recognise=lambda found: "emb" in found.tensors and "att" in found.tensors,
    settle=settle,
    rules=rules,
    model=lambda s: Module(s["width"], s["depth"], tuple(s["curvature"]), s["scale"]),
    inputs=lambda s: (np.zeros((1, 3), np.float32),),
    groups=lambda settings, keys: [
        [k for k in keys if not k.endswith("bias")],
        [k for k in keys if k.endswith("bias")],
    ],
)
