"""The same network in flax, and its port. Every key of the torch file finds its place by its name, so that no rule is needed."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

import weights
from port_jax.layers import BatchNorm, Curved, Hyperplanes
from port_jax.manifolds import PoincareBall


class MobiusLinear(nn.Module):
    """y = (W (x) x) (+) b with a bias b on the ball; W [out, in] as in torch."""

    features: int

    @nn.compact
    def __call__(self, ball: Any, x: Float[Array, "n in"]) -> Float[Array, "n out"]:
        weight = self.param("weight", nn.initializers.lecun_normal(in_axis=-1, out_axis=-2), (self.features, x.shape[-1]))
        return ball.mobius_add(ball.mobius_matvec(weight, x), self.param("bias", nn.initializers.zeros, (self.features,))[None])


class Net(nn.Module):
    """Class logits of rows of features."""

    width: int = 8
    classes: int = 3

    @nn.compact
    def __call__(self, x: Float[Array, "n in"], train: bool = False) -> Float[Array, "n classes"]:
        ball = Curved("PoincareBall", 0.7, learnable=True, name="ball")()
        h = MobiusLinear(self.width, name="first")(ball, ball.expmap0(x))
        h = ball.expmap0(BatchNorm(not train, name="norm")(ball.logmap0(h)))
        return Hyperplanes(self.classes, name="planes")(ball, MobiusLinear(self.width, name="second")(ball, h))

    def manifolds(self, params: Any) -> dict[str, Any]:
        """The manifolds of the points, which follow the trained curvature."""
        ball = PoincareBall.from_raw(params["ball"]["isp_c"])
        return {"first": {"bias": ball}, "second": {"bias": ball}, "planes": {"points": ball}}


def original() -> Any:
    """The torch module, for `hyperport verify`."""
    from examples.own_model.original import Net as Original

    return Original()


PORT = weights.Port(Net(), inputs=0.5 * np.random.default_rng(0).normal(size=(7, 6)), torch=original, train={"train": True})
