"""One network of all the standard modules of torch, and its counterpart in flax, whose names alone lead from one to the other."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import geoopt
import jax.numpy as jnp
import numpy as np
import torch
from geoopt.layers.stereographic import Distance2StereographicHyperplanes

from port_jax.layers import GRU, LSTM, Hyperplanes, MultiheadAttention
from port_jax.manifolds import Lorentz, PoincareBall, Sphere


class Zoo(torch.nn.Module):
    """Everything is square where it can be: there a wrong layout gives no error of shape."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 4))
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(4, 4, bias=False) for _ in range(2)])
        self.conv1, self.conv2, self.conv3 = torch.nn.Conv1d(4, 4, 3), torch.nn.Conv2d(4, 4, 3), torch.nn.Conv3d(2, 2, 2)
        self.grouped = torch.nn.Conv1d(4, 8, 3, groups=2)
        self.batch, self.batch2 = torch.nn.BatchNorm1d(4), torch.nn.BatchNorm2d(4)
        self.layer, self.group, self.rms = torch.nn.LayerNorm(4), torch.nn.GroupNorm(2, 4), torch.nn.RMSNorm(4, eps=1e-6)
        self.emb = torch.nn.Embedding(5, 5)
        self.attn = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm = torch.nn.LSTM(4, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = torch.nn.GRU(4, 4, batch_first=True)
        ball, sphere, lorentz = geoopt.PoincareBall(0.7), geoopt.Sphere(), geoopt.Lorentz(1.3)
        self.planes = Distance2StereographicHyperplanes(4, 4, ball=ball, init_std=0.3)
        self.points = torch.nn.ParameterList([geoopt.ManifoldParameter(ball.random_normal(4, 4, std=0.3), manifold=ball)])
        start = sphere.random_uniform(4, 4)
        self.table = torch.nn.ParameterDict({"up": geoopt.ManifoldParameter(start, manifold=sphere), "w": torch.randn(4, 4)})
        self.far = geoopt.ManifoldParameter(lorentz.random_normal(4, 4, std=0.3), manifold=lorentz)
        self.register_buffer("shift", torch.randn(4))
        with torch.no_grad():
            for norm in (self.batch, self.batch2, self.layer, self.group, self.rms):
                norm.weight += torch.randn(4)
            for norm in (self.batch, self.batch2):
                norm.running_mean += torch.randn(4)
                norm.running_var += torch.rand(4)

    def forward(self, x, image, volume, ids):
        lines = x.transpose(1, 2)
        h = x
        for block in self.blocks:
            h = block(h)
        return {
            "linear": self.linear(x),
            "net": self.net(x),
            "blocks": h,
            "convolved": (self.conv1(lines), self.conv2(image), self.conv3(volume), self.grouped(lines)),
            "normed": (self.batch(lines), self.batch2(image), self.layer(x), self.group(lines), self.rms(x)),
            "embedded": self.emb(ids),
            "attended": self.attn(x, x + 1, x - 1),
            "recurrent": (self.lstm(x)[0], self.lstm(x)[1][1], self.gru(x)[0]),
            "planes": self.planes(0.2 * x.flatten(0, 1)),
            "tables": x @ (self.points[0] + self.table["up"] * self.table["w"] + self.shift),
            "far": x @ self.far,  # apart: geoopt stretches points that stand still, and what it stretches moves what they share
        }


class FlaxZoo(nn.Module):
    """The same; flax has channels on the last axis, and other numbers for epsilon and momentum."""

    @nn.compact
    def __call__(self, x, image, volume, ids) -> dict[str, Any]:
        h, back = x, jnp.moveaxis
        for n in range(2):
            h = nn.Dense(4, use_bias=False, name=f"blocks_{n}")(h)
        planar, cube = back(image, 1, -1), back(volume, 1, -1)
        points, up, w, far = (self.param(name, nn.initializers.ones, (4, 4)) for name in ("points_0", "table_up", "table_w", "far"))
        shift = self.variable("buffers", "shift", lambda: np.zeros(4)).value
        recurrent, (_, cells) = LSTM(4, layers=2, bidirectional=True, name="lstm")(x)

        def conv(name: str, *window: int, features: int = 4, **options: Any) -> nn.Conv:
            return nn.Conv(features, window, padding="VALID", name=name, **options)

        def batch(name: str) -> nn.BatchNorm:
            return nn.BatchNorm(use_running_average=True, epsilon=1e-5, name=name)

        return {
            "linear": nn.Dense(4, name="linear")(x),
            "net": nn.Dense(4)(nn.tanh(nn.Dense(3)(x))),
            "blocks": h,
            "convolved": (
                back(conv("conv1", 3)(x), -1, 1),
                back(conv("conv2", 3, 3)(planar), -1, 1),
                back(conv("conv3", 2, 2, 2, features=2)(cube), -1, 1),
                back(conv("grouped", 3, features=8, feature_group_count=2)(x), -1, 1),
            ),
            "normed": (
                back(batch("batch")(x), -1, 1),
                back(batch("batch2")(planar), -1, 1),
                nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="layer")(x),
                back(nn.GroupNorm(2, epsilon=1e-5, use_fast_variance=False, name="group")(x), -1, 1),
                nn.RMSNorm(name="rms")(x),
            ),
            "embedded": nn.Embed(5, 5, name="emb")(ids),
            "attended": MultiheadAttention(4, 2, name="attn")(x, x + 1, x - 1),
            "recurrent": (recurrent, cells, GRU(4, name="gru")(x)[0]),
            "planes": Hyperplanes(4, name="planes")(PoincareBall(0.7), 0.2 * x.reshape(-1, 4)),
            "tables": x @ (points + up * w + shift[None]),
            "far": x @ far,
        }

    def manifolds(self, params) -> dict[str, Any]:
        return {"points_0": PoincareBall(0.7), "table_up": Sphere(), "far": Lorentz(1.3), "planes": PoincareBall(0.7)}


__all__ = ["FlaxZoo", "Zoo"]
