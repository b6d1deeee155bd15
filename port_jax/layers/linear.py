"""Linear maps from points to points. The manifold, whose curvature may be trained, is the first argument of each call."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.checks import as_numbers
from port_jax.initializers import on_manifold
from port_jax.layers.models_of_space import require_ball, require_time
from port_jax.manifolds import Manifold
from port_jax.manifolds.stereographic.unidirectional import at_distances, unidirectional

__all__ = ["LorentzFullyConnected", "MobiusLinear", "PoincareLinear", "lifted"]

_glorot = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


class MobiusLinear(nn.Module):
    """y = (W ⊗ x) ⊕ b with W ⊗ x = exp_0(W log_0 x) and a point b of the manifold (Ganea et al. 2018, section 3.2; geoopt's example).

    On a ball or a hyperboloid. Parameters: `kernel` [in, features], in the tangent space at the origin, and `bias`, one **point** of the
    manifold (features + 1 numbers on the hyperboloid), which an optimizer has to keep there. `HypLinear` has a tangent vector for it.
    """

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch ambient"]) -> Float[Array, "*batch out"]:
        x = as_numbers("x", x)
        kernel = self.param("kernel", _glorot, (x.shape[-1] - manifold.ambient, self.features))
        y = manifold.from_tangent0(manifold.to_tangent0(x) @ kernel)
        if not self.use_bias:
            return y
        bias = self.param("bias", on_manifold(manifold, nn.initializers.zeros), (self.features + manifold.ambient,))
        return manifold.mobius_add(y, jnp.broadcast_to(bias, y.shape))


class PoincareLinear(nn.Module):
    """The y whose signed distance to each plane {y_j = 0} is v_j = 2|z_j| d(x, hyperplane j) (HNN++, Shimizu et al. 2021, section 3.2).

        w_j = sinh(√c v_j)/√c,   y = w/(1 + sqrt(1 + c|w|²))

    On a ball. Parameters: `kernel` [in, features] with the columns z_j and `bias` [features] with the offsets r_j: hyperplane j passes
    through exp_0(r_j z_j/|z_j|), at the distance 2 r_j from the origin. The authors' code stores z_j as a length and a direction, HypLL
    as it is.
    """

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        ball, x = require_ball(self, manifold), as_numbers("x", x)
        kernel = self.param("kernel", _glorot, (x.shape[-1], self.features))
        zeros = jnp.zeros((self.features,), x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else zeros
        return ball.projx(at_distances(unidirectional(x, kernel, bias, ball.k), ball.k))


class LorentzFullyConnected(nn.Module):
    """y_s = W x + b with the whole x, time included, and y_t = sqrt(k + |y_s|²) (Bdeir et al. 2024, section 4.1).

    On a hyperboloid of any k. Parameters: `linear/kernel` [in + 1, features], `linear/bias` [features]; y has features + 1 coordinates.
    The authors store one more row of W and b for a time that they then replace: with `with_time` that is the first column of the kernel
    and the first number of the bias, whose gradients are 0 and which only weight decay moves. `LorentzLinear` is the layer of Chen et al.
    (2022): k = 1, and the time is a sigmoid of its own row.
    """

    features: int
    use_bias: bool = True
    with_time: bool = False

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch in+1"]) -> Float[Array, "*batch out+1"]:
        require_time(self, manifold, "MobiusLinear or PoincareLinear")
        linear = nn.Dense(self.features + self.with_time, self.use_bias, kernel_init=_glorot, name="linear")
        return lifted(manifold, linear(as_numbers("x", x)), self.with_time)


def lifted(manifold: Manifold, y: Float[Array, "*batch out"], with_time: bool) -> Float[Array, "*batch d+1"]:
    """The point of a hyperboloid with these space coordinates, before which with `with_time` there is a time that is replaced."""
    return manifold.projx(y if with_time else manifold.from_coordinates0(y))
