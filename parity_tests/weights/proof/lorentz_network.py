"""A network on the hyperboloid with layers of its own, on torch and in flax, and its port: the third in which errors are planted."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import geoopt
import jax
import jax.numpy as jnp
import torch

import weights
from parity_tests import draws
from port_jax.layers import Curved, LorentzBatchNorm, LorentzMLR
from port_jax.manifolds import Lorentz
from reference_torch.layers import batch_norm, hyperplanes, linear, pointwise
from reference_torch.layers.tangent import from_tangent0

K = 1 / 0.7


class Original(torch.nn.Module):
    """Class logits of rows of features."""

    def __init__(self):
        super().__init__()
        self.space = geoopt.Lorentz(K, learnable=True)
        self.first = linear.LorentzFullyConnected(5, 6)
        self.norm = batch_norm.LorentzBatchNorm(self.space, 6)
        self.second = linear.LorentzFullyConnected(7, 7)
        self.spread = pointwise.SpaceLayerNorm(7)
        self.classes = hyperplanes.LorentzMLR(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(self.space, from_tangent0(self.space, x))
        h = self.second(self.space, self.norm(self.space, h))
        return self.classes(self.space, self.spread(self.space, h))


class FullyConnected(nn.Module):
    """Space coordinates W x + b, time recomputed."""

    features: int

    @nn.compact
    def __call__(self, space: Any, x: jax.Array) -> jax.Array:
        y = nn.Dense(self.features, name="linear")(x)
        return space.projx(space.from_coordinates0(y))


class Spread(nn.Module):
    """Space coordinates with mean 0 and variance 1, scaled and shifted."""

    @nn.compact
    def __call__(self, space: Any, x: jax.Array) -> jax.Array:
        s = x[..., 1:]
        s = (s - s.mean(-1, keepdims=True)) / jnp.sqrt(s.var(-1, keepdims=True) + 1e-5)
        scale = self.param("scale", nn.initializers.ones, (s.shape[-1],))
        return space.projx(space.from_coordinates0(s * scale[None] + self.param("bias", nn.initializers.zeros, (s.shape[-1],))[None]))


class Net(nn.Module):
    """Class logits of rows of features."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        space = Curved("Lorentz", K, learnable=True, name="space")()
        h = FullyConnected(6, name="first")(space, space.from_tangent0(x))
        h = LorentzBatchNorm(name="norm")(space, h, not train)
        h = Spread(name="spread")(space, FullyConnected(7, name="second")(space, h))
        return LorentzMLR(3, name="classes")(space, h)

    def manifolds(self, params: Any) -> dict[str, Any]:
        """The manifold of the shift of the norm, which follows the trained curvature."""
        return {"norm": {"beta": Lorentz(params["space"]["k"])}}


RULES = [
    weights.linear("first", "params/first/linear"),
    weights.linear("second", "params/second/linear"),
    weights.param("spread.norm.weight", "params/spread/scale"),
    weights.param("spread.norm.bias", "params/spread/bias"),
    weights.param("classes.z", "params/classes/kernel", weights.TRANSPOSE),
    weights.param("classes.a", "params/classes/bias"),
]
PORT = weights.Port(Net(), RULES, 0.5 * draws.rng(0).normal(size=(8, 4)), torch=Original, train={"train": True})


def trained(steps: int) -> tuple[Original, dict]:
    """The network after some steps on random features, and what a training program saves of it."""
    draws.seed_torch(0)
    net = Original()
    optimizer = geoopt.optim.RiemannianAdam([p for name, p in net.named_parameters() if name != "space.k"], lr=1e-2)
    x, labels = 0.5 * torch.randn(40, 4), torch.randint(3, (40,))
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()
    return net, {"model": net.state_dict()}
