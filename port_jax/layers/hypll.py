"""The layers of HypLL that are its own (van Spengler et al. 2023): batch norm without running statistics, pooling, flattening, curvature.

HypLL's other layers are `PoincareLinear` (HLinear), `PoincareConv2d` (HConvolution2d), `TangentActivation` (HReLU), `PointEmbedding`
(HEmbedding), `MobiusResidual` (mobius_add) and `beta_join` in `port_jax.manifolds.stereographic.concatenation` (cat). Its images have the
channels on axis 1, here they are last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.checks import as_numbers, require_choice
from port_jax.layers.batch_norm import normalised
from port_jax.layers.models_of_space import require_ball
from port_jax.layers.pooling import framed, windows
from port_jax.manifolds import Manifold, PoincareBall
from port_jax.manifolds.stereographic.concatenation import beta_concatenate
from port_jax.manifolds.stereographic.fixed_point_mean import fixed_point_mean
from port_jax.manifolds.trig import softplus_inverse

__all__ = ["CONSTRAINTS", "ConstrainedBall", "HAvgPool2d", "HBatchNorm", "HFlatten", "HMaxPool2d", "constrained_ball", "mean_of"]

Pair = tuple[int, int]
Points = Float[Array, "*batch d"]
Image = Float[Array, "*batch h w d"]
Number = Callable[[Float[Array, ""]], Float[Array, ""]]

CONSTRAINTS: Mapping[str, tuple[Number, Number]] = {
    "softplus": (jax.nn.softplus, softplus_inverse),
    "identity": (lambda value: value, lambda c: c),
    "exp": (jnp.exp, jnp.log),
}
"""By name, what HypLL's `Curvature(value, constraining_strategy)` makes of the value, and the way back from c. softplus is its default."""


def constrained_ball(constraint: str, value: Float[Array, ""]) -> PoincareBall:
    """The ball of c = constraint(value). Error: ValueError for a name that is not in `CONSTRAINTS`."""
    require_choice("constraint", constraint, tuple(CONSTRAINTS))
    return PoincareBall(CONSTRAINTS[constraint][0](value))


class ConstrainedBall(nn.Module):
    """The ball of curvature -c. If it is learnable, its parameter is the `value` [] of HypLL's Curvature, c = constraint(value)."""

    curvature: float
    learnable: bool = False
    constraint: str = "softplus"

    @nn.compact
    def __call__(self) -> PoincareBall:
        require_choice("constraint", self.constraint, tuple(CONSTRAINTS))
        if not self.learnable:
            return PoincareBall(self.curvature)
        start = CONSTRAINTS[self.constraint][1]
        value = self.param("value", lambda _key: jnp.asarray(start(jnp.asarray(self.curvature)), jnp.float32))
        return constrained_ball(self.constraint, value)


def mean_of(ball: PoincareBall, x: Float[Array, "*batch n d"], use_midpoint: bool) -> Points:
    """The gyro-midpoint, or the Fréchet mean, over the axis before the last."""
    return ball.weighted_midpoint(x, reducedim=(-2,)) if use_midpoint else fixed_point_mean(x, ball.k)


class HBatchNorm(nn.Module):
    """y = exp_β(sqrt(weight/(var + eps)) PT_{μ→β} log_μ x), with μ the mean of the batch, var = mean d(μ, x)², β = exp_0(bias).

    On a ball. All axes but the last are the batch. μ is the Fréchet mean (`fixed_point_mean`), or with `use_midpoint` the gyro-midpoint.
    There are **no running statistics**: in evaluation the statistics are those of the batch, too, so that an output depends on what else
    is in the batch. Parameters: `weight` [] and `bias` [d], a tangent vector at the origin.
    """

    use_midpoint: bool = False
    eps: float = 1e-6

    @nn.compact
    def __call__(self, manifold: Manifold, x: Points) -> Points:
        ball, x = require_ball(self, manifold), as_numbers("x", x)
        weight = self.param("weight", nn.initializers.ones, ())
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        mean = mean_of(ball, x.reshape(-1, x.shape[-1]), self.use_midpoint)
        var = jnp.mean(ball.dist2(jnp.broadcast_to(mean, x.shape), x))
        return normalised(ball, x, mean, var, weight, bias, self.eps)


class HAvgPool2d(nn.Module):
    """The mean of each window, after its beta concatenation: of the parts of exp_0(B(nK/2, 1/2)/B(n/2, 1/2) [log_0 x_1, ..., log_0 x_K]).

    On a ball. `window` None is the whole image. The K pixels of a window are shortened as in `PoincareConv2d`, so that the mean of equal
    points is not that point, but one nearer to the origin. The mean is as in `HBatchNorm`. `padding` adds origins on both sides, which
    count.
    """

    window: Pair | None = None
    strides: Pair | None = None
    padding: Pair = (0, 0)
    use_midpoint: bool = False

    def __call__(self, manifold: Manifold, x: Image) -> Float[Array, "*batch i j d"]:
        ball, x = require_ball(self, manifold), as_numbers("x", x)
        image = framed(ball, x, self.padding)
        window = self.window or (image.shape[-3], image.shape[-2])
        parts = windows(image, window, self.strides or window)
        joined = ball.projx(beta_concatenate(parts, ball.k))
        return mean_of(ball, joined.reshape(parts.shape), self.use_midpoint)


class HMaxPool2d(nn.Module):
    """exp_0 of the largest entries of log_0 x in each window, channel by channel. `padding` never wins. On any manifold with an origin."""

    window: Pair
    strides: Pair | None = None
    padding: Pair = (0, 0)

    def __call__(self, manifold: Manifold, x: Image) -> Float[Array, "*batch i j d"]:
        u = manifold.to_tangent0(as_numbers("x", x))
        frame: Any = [(size, size) for size in self.padding]
        return manifold.from_tangent0(nn.max_pool(u, self.window, self.strides or self.window, frame))


class HFlatten(nn.Module):
    """The beta concatenation of all pixels, channel by channel: entry i h w + j w + k is of channel i at row j and column k.

    On a ball. That is the order of torch's flatten of [channels, h, w], and so that of the rows of the linear map after it.
    """

    def __call__(self, manifold: Manifold, x: Image) -> Float[Array, "*batch d*h*w"]:
        ball, x = require_ball(self, manifold), as_numbers("x", x)
        *batch, height, width, channels = x.shape
        pixels = x.reshape(*batch, height * width, channels)
        joined = ball.projx(beta_concatenate(pixels, ball.k))
        return joined.reshape(pixels.shape).swapaxes(-1, -2).reshape(*batch, -1)
