"""The layers of Poincaré ResNet (van Spengler et al., "Poincaré ResNet", ICCV 2023), from tangent vectors at the origin to such.

Each maps its input to the ball by exp_0, works there, and comes back by log_0. Two slips of the authors' code, which their weights were
trained with, are kept; an argument turns each off. The conformal factor in the distance to hyperplanes is multiplied where it has to be
divided (`exact_distance`), and the derivative of Moebius additions by the curvature is not theirs (`slip`, see `slipped_add`).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.checks import as_numbers, require_choice
from port_jax.layers.batch_norm import normalised, scaled_root
from port_jax.layers.hypll import mean_of
from port_jax.layers.models_of_space import require_ball
from port_jax.layers.pooling import windows
from port_jax.manifolds import Manifold, PoincareBall, trig
from port_jax.manifolds.row_products import dot, repeated
from port_jax.manifolds.stereographic.concatenation import beta_ratio
from port_jax.manifolds.stereographic.metric import conformal
from port_jax.manifolds.stereographic.unidirectional import at_distances, unidirectional

__all__ = [
    "SLIPS",
    "PoincareTangentConv2d",
    "PoincareTangentLinear",
    "TangentBatchNorm",
    "WidthResidual",
    "slipped_add",
]

Pair = tuple[int, int]
Vectors = Float[Array, "*batch d"]
Image = Float[Array, "*batch h w d"]

SLIPS = ("none", "variance", "all")
"""Which Moebius additions of batch norm have the authors' derivative by the curvature: those of the variance, or all."""

LEAST = 1e-15


def _half_identity(area: int, inward: int, features: int) -> Float[Array, "positions in out"]:
    """Half the identity of the authors, whose rows have the channel first."""
    return 0.5 * jnp.eye(inward * area, features).reshape(inward, area, features).swapaxes(0, 1)


def _linear(ball: PoincareBall, u: Vectors, kernel: Float[Array, "d m"], bias: Float[Array, " m"], exact: bool) -> Float[Array, "*batch m"]:
    """log_0 of `PoincareLinear`'s map of exp_0(u), with the slip unless it is to be exact."""
    v = unidirectional(ball.expmap0(u), kernel, bias, ball.k, multiplied=not exact)
    return ball.logmap0(ball.projx(at_distances(v, ball.k)))


class PoincareTangentLinear(nn.Module):
    """log_0 of y = w/(1 + sqrt(1 + c|w|²)), w_j = sinh(√c v_j)/√c, v_j = 2|z_j|/√c asinh(λ√c <x, z_j/|z_j|> cosh(2√c r_j) - (λ - 1)
    sinh(2√c r_j)), x = exp_0(u), with the slip λ = 2(1 - c|x|²), or with `exact_distance` λ = 2/(1 - c|x|²), which is `PoincareLinear`.

    On a ball. Parameters: `kernel` [in, features] with the columns z_j, at first half the identity, and `bias` [features] with the r_j.
    """

    features: int
    exact_distance: bool = False

    @nn.compact
    def __call__(self, manifold: Manifold, u: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        ball, u = require_ball(self, manifold), as_numbers("u", u)
        kernel = self.param("kernel", lambda _key, inward: _half_identity(1, inward, self.features)[0], u.shape[-1])
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return _linear(ball, u, kernel, bias, self.exact_distance)


class PoincareTangentConv2d(nn.Module):
    """`PoincareTangentLinear` of each window, with zeros around the image: of B(nK/2, 1/2)/B(n/2, 1/2) [u_1, ..., u_K], n the channels.

    On a ball. Parameters: `kernel` [rows, columns, in, features] (the authors' `weights` [in rows columns, features] has the channel first)
    and `bias` [features].
    """

    features: int
    kernel_size: Pair = (3, 3)
    strides: Pair = (1, 1)
    padding: Pair = (0, 0)
    exact_distance: bool = False

    @nn.compact
    def __call__(self, manifold: Manifold, u: Float[Array, "*batch h w in"]) -> Float[Array, "*batch i j out"]:
        ball, u = require_ball(self, manifold), as_numbers("u", u)
        area, inward = self.kernel_size[0] * self.kernel_size[1], u.shape[-1]

        def start(_key: PRNGKeyArray) -> Float[Array, "rows columns in out"]:
            return _half_identity(area, inward, self.features).reshape(*self.kernel_size, inward, self.features)

        kernel, bias = self.param("kernel", start), self.param("bias", nn.initializers.zeros, (self.features,))
        frame = [(0, 0)] * (u.ndim - 3) + [(size, size) for size in self.padding] + [(0, 0)]
        parts = windows(jnp.pad(beta_ratio(inward * area, inward) * u, frame), self.kernel_size, self.strides)
        joined = parts.reshape(*parts.shape[:-2], area * inward)
        return _linear(ball, joined, kernel.reshape(-1, self.features), bias, self.exact_distance)


class TangentBatchNorm(nn.Module):
    """log_0 exp_β(sqrt(weight/(var + eps)) PT_{μ→β} log_μ x) with x = exp_0(u), β = exp_0(bias): the formula of `HBatchNorm`.

    On a ball. All axes but the last are the batch; μ is its gyro-midpoint Σ γ²x/(Σ γ² - n/2), halved in length, γ² = 1/(1 - c|x|²), or
    without `use_midpoint` the Fréchet mean. var is one number, the mean of d(μ, x)² over all points. There are **no running statistics**:
    evaluation has those of the batch as well. Parameters: `weight` [], the authors' `var`, and `bias` [d], their `mean`.

    slip: one of `SLIPS`. Values never depend on it; it is for a curvature that the authors' code trains.
    """

    use_midpoint: bool = True
    slip: str = "none"
    eps: float = 1e-6

    @nn.compact
    def __call__(self, manifold: Manifold, u: Vectors) -> Vectors:
        require_choice("slip", self.slip, SLIPS)
        ball, u = require_ball(self, manifold), as_numbers("u", u)
        weight = self.param("weight", nn.initializers.ones, ())
        bias = self.param("bias", nn.initializers.zeros, (u.shape[-1],))
        x = ball.expmap0(u)
        mean = mean_of(ball, x.reshape(-1, x.shape[-1]), self.use_midpoint)
        c = jnp.asarray(-ball.k, x.dtype)
        var = jnp.mean(ball.dist2(repeated(mean, x.shape), x) if self.slip == "none" else _slipped_dist2(x, mean, c))
        if self.slip != "all":
            return ball.logmap0(normalised(ball, x, mean, var, weight, bias, self.eps))
        goal = ball.expmap0(bias)
        u = scaled_root(weight, var, self.eps) * _slipped_transport(mean, goal, _slipped_logmap(mean, x, c), c)
        return ball.logmap0(ball.projx(_slipped_expmap(goal, u, c)))


class WidthResidual(nn.Module):
    """log_0(exp_0(u) ⊕ exp_0(v)) of images [*batch, h, w, d], where a point is a **row of one channel**, along the width.

    The authors' exponential map takes the last axis, which in their images is the width. On a ball.
    """

    def __call__(self, manifold: Manifold, u: Image, v: Image) -> Image:
        ball = require_ball(self, manifold)
        x, y = (ball.expmap0(as_numbers(name, image).swapaxes(-1, -2)) for name, image in (("u", u), ("v", v)))
        return ball.logmap0(ball.mobius_add(x, y, project=False)).swapaxes(-1, -2)


# Moebius additions whose derivative by the curvature is the authors'. Vectors outside of the ball are added as well, as in a transport.


def _added(x: Vectors, y: Vectors, c: Float[Array, ""]) -> Vectors:
    xy, xx, yy = dot(x, y), dot(x, x), dot(y, y)
    return ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / jnp.maximum(1 + 2 * c * xy + c * c * xx * yy, LEAST)


@jax.custom_vjp
def slipped_add(x: Vectors, y: Vectors, c: Float[Array, ""]) -> Vectors:
    """x ⊕ y = N/D of arrays of one shape, with the derivative by c of the authors' code, which is not that of the formula.

    With the cotangent g of a point, the formula's is q/D - 2(<x, y> + c|x|²|y|²) <g, N>/D², q = (2<x, y> + |y|²) <g, x> - |x|² <g, y>.
    The code has 1/(D max(q, 1e-15)) in the place of q/D, about 1e15 for each point with q <= 0, so that an Adam lowers every curvature that
    batch norms have by its rate in each step, and descent destroys them. First derivatives in reverse mode only.
    """
    return _added(x, y, c)


def _forward(x: Vectors, y: Vectors, c: Float[Array, ""]) -> tuple[Vectors, tuple[Vectors, Vectors, Float[Array, ""]]]:
    return _added(x, y, c), (x, y, c)


def _backward(kept: tuple[Vectors, Vectors, Float[Array, ""]], g: Vectors) -> tuple[Vectors, Vectors, Float[Array, ""]]:
    x, y, c = kept
    by_x, by_y = jax.vjp(lambda x, y: _added(x, y, c), x, y)[1](g)
    xy, xx, yy, gx, gy = dot(x, y), dot(x, x), dot(y, y), dot(g, x), dot(g, y)
    bottom = jnp.maximum(1 + 2 * c * xy + c * c * xx * yy, LEAST)
    top = (1 + 2 * c * xy + c * yy) * gx + (1 - c * xx) * gy
    slip = 1 / (bottom * jnp.maximum((2 * xy + yy) * gx - xx * gy, LEAST))
    return by_x, by_y, jnp.sum(slip - 2 * (xy + c * xx * yy) * top / (bottom * bottom))


slipped_add.defvjp(_forward, _backward)


def _slipped(x: Vectors, y: Vectors, c: Float[Array, ""]) -> Vectors:
    return slipped_add(*jnp.broadcast_arrays(x, y), c)


def _slipped_dist2(x: Vectors, y: Vectors, c: Float[Array, ""]) -> Float[Array, "*batch 1"]:
    """d(x, y)² = 4 artanh(√c|w|)²/c, w = (-x) ⊕ y."""
    w = _slipped(-x, y, c)
    w2 = dot(w, w)
    return 4 * w2 * trig.artan_ratio(-c * w2) ** 2


def _slipped_logmap(x: Vectors, y: Vectors, c: Float[Array, ""]) -> Vectors:
    """(1 - c|x|²) artanh(√c|w|) w/(√c|w|), w = (-x) ⊕ y."""
    w = _slipped(-x, y, c)
    return conformal(x, -c) * trig.artan_ratio(-c * dot(w, w)) * w


def _slipped_expmap(x: Vectors, u: Vectors, c: Float[Array, ""]) -> Vectors:
    """x ⊕ tanh(√c|u|/(1 - c|x|²)) u/(√c|u|)."""
    v = u / conformal(x, -c)
    return _slipped(x, trig.tan_ratio(-c * dot(v, v)) * v, c)


def _slipped_transport(x: Vectors, y: Vectors, u: Vectors, c: Float[Array, ""]) -> Vectors:
    """gyr[y, -x] u (1 - c|y|²)/(1 - c|x|²), the gyration as -(y ⊕ (-x)) ⊕ (y ⊕ (-x ⊕ u)) of u as a point.

    From one x to one y: the sum of the two is taken once, and so has one slip, whatever the number of u.
    """
    turned = _slipped(-_slipped(y, -x, c), _slipped(y, _slipped(-x, u, c), c), c)
    return turned * (conformal(y, -c) / conformal(x, -c))
