"""Convolutions of images whose pixels are points, with channels last: concatenate the points of a window, then map them linearly."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.checks import as_numbers
from port_jax.initializers import Initializer
from port_jax.layers.linear import lifted
from port_jax.layers.models_of_space import require_ball, require_time
from port_jax.layers.pooling import framed, windows
from port_jax.manifolds import Manifold
from port_jax.manifolds.hyperboloid.concatenation import direct_concatenate
from port_jax.manifolds.stereographic.concatenation import beta_concatenate
from port_jax.manifolds.stereographic.unidirectional import at_distances, unidirectional

__all__ = ["LorentzConv2d", "PoincareConv2d"]

Pair = tuple[int, int]


class PoincareConv2d(nn.Module):
    """`PoincareLinear`'s map of the beta concatenation of each window (Shimizu et al. 2021, section 3.4; HypLL's HConvolution2d).

    On a ball. Parameters: `kernel` [rows, columns, in, features] (HypLL's `weights` [in rows columns, features] has the channel first) and
    `bias` [features]. `padding` adds origins on both sides.
    """

    features: int
    kernel_size: Pair = (3, 3)
    strides: Pair = (1, 1)
    padding: Pair = (0, 0)
    use_bias: bool = True

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch h w in"]) -> Float[Array, "*batch i j out"]:
        ball, x = require_ball(self, manifold), as_numbers("x", x)
        start = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        kernel = self.param("kernel", start, (*self.kernel_size, x.shape[-1], self.features))
        zeros = jnp.zeros((self.features,), x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else zeros
        joined = beta_concatenate(windows(framed(ball, x, self.padding), self.kernel_size, self.strides), ball.k)
        y = at_distances(unidirectional(ball.projx(joined), kernel.reshape(-1, self.features), bias, ball.k), ball.k)
        return ball.projx(y)


class LorentzConv2d(nn.Module):
    """`LorentzFullyConnected` of the direct concatenation of each window (Bdeir et al. 2024, section 4.1).

    On a hyperboloid. Parameters: `linear/kernel` [1 + rows columns in, features], the concatenation's time first and then its positions
    row by row, and `linear/bias` [features]; y has features + 1 channels. `padding` adds origins on both sides, as the authors' padding
    with zeros does once they have raised its time to √k. `with_time` as in `LorentzFullyConnected`, initializers as in `nn.Dense`.
    """

    features: int
    kernel_size: Pair = (3, 3)
    strides: Pair = (1, 1)
    padding: Pair = (0, 0)
    use_bias: bool = True
    with_time: bool = False
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch h w in+1"]) -> Float[Array, "*batch i j out+1"]:
        require_time(self, manifold, "PoincareConv2d")
        parts = windows(framed(manifold, as_numbers("x", x), self.padding), self.kernel_size, self.strides)
        joined = direct_concatenate(parts, manifold.k)  # pyright: ignore[reportAttributeAccessIssue]
        dense = nn.Dense(
            self.features + self.with_time, self.use_bias, kernel_init=self.kernel_init, bias_init=self.bias_init, name="linear"
        )
        return lifted(manifold, dense(joined), self.with_time)
