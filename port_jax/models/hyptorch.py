"""The head of hyperbolic image embeddings (arXiv 1904.02239): the map into the ball, and the hyperbolic softmax."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.checks import as_numbers, require_shape
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.types import ManifoldTree, Params

__all__ = ["EXTRA", "MARGIN", "HypTorch", "add", "inside", "plane_logits", "riemannian_gradient"]

MARGIN = 1e-3
"""hyptorch keeps points within (1 - 1e-3) of the radius, for every dtype."""


EXTRA = 1e-5
"""What hyptorch adds to the denominator of a Moebius addition. Where the denominator is 0.1 this changes the sum by 1e-4, so that no other
formula gives its numbers."""


def add(c: Float[Array, ""], x: Float[Array, "*batch d"], y: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """((1 + 2c<x, y> + c|y|^2) x + (1 - c|x|^2) y) / (1 + 2c<x, y> + c^2 |x|^2 |y|^2 + 1e-5)."""
    xy, xx, yy = ((a * b).sum(-1, keepdims=True) for a, b in ((x, y), (x, x), (y, y)))
    return ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / (1 + 2 * c * xy + c * c * xx * yy + EXTRA)


def plane_logits(c: Float[Array, ""], x: Float[Array, "n d"], p: Float[Array, "k d"], a: Float[Array, "k d"]) -> Float[Array, "n k"]:
    """lambda_p |a'| d(x, plane through p with normal a'), a' = (1 - c |p|^2) a, lambda_p |a'| = 2 |a|: with z = -p (+) x it is
    2 |a| / sqrt(c) arsinh(2 sqrt(c) <z, a> / (|a| (1 - c |z|^2)))."""
    z, a = add(c, -p[None], x[:, None]), a[None]
    square = (a * a).sum(-1)
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    below = jnp.where(square > 0, norm, 1) * (1 - c * (z * z).sum(-1))
    return 2 * norm / jnp.sqrt(c) * jnp.arcsinh(2 * jnp.sqrt(c) * (z * a).sum(-1) / below)


def inside(ball: PoincareBall, x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """x, or if it lies beyond the radius (1 - 1e-3) / sqrt(c), the point at that radius in its direction."""
    square, most = (x * x).sum(-1, keepdims=True), (1 - MARGIN) / jnp.sqrt(jnp.asarray(ball.c, x.dtype))
    outside = square > most**2
    return jnp.where(outside, x * (most / jnp.sqrt(jnp.where(outside, square, 1))), x)


@jax.custom_vjp
def riemannian_gradient(x: Float[Array, "*batch d"], c: Float[Array, ""]) -> Float[Array, "*batch d"]:
    """The identity, whose gradient is scaled by ((1 - c |x|^2) / 2)^2, the inverse of the ball's metric."""
    return x


def _forward(x: Array, c: Array) -> tuple[Array, tuple[Array, Array]]:
    return x, (x, c)


def _backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, c = saved
    return g * (1 - c * (x * x).sum(-1, keepdims=True)) ** 2 / 4, jnp.zeros_like(c)


riemannian_gradient.defvjp(_forward, _backward)


class HypTorch(nn.Module):
    """Features [N, d] -> exp_p(x) -> logits lambda_p |a| d(x, plane) of the hyperbolic softmax (Ganea et al. 2018, equation 25).

    p is the origin, or with `train_x` exp_0 of the parameter `xp`. `train_c` makes c the parameter `c` [1]. With `riemannian` the
    gradient of the points is scaled as in the original, by the metric at `start_c`, the c with which training began. Without
    `num_classes` there is no softmax.
    """

    dim: int
    num_classes: int | None = None
    c: float = 1.0
    train_c: bool = False
    train_x: bool = False
    riemannian: bool = True
    start_c: float | None = None

    def setup(self) -> None:
        if self.train_c:
            self.raw_c = self.param("c", lambda _key: jnp.full((1,), self.c, jnp.float32))
        if self.train_x:
            self.xp = self.param("xp", nn.initializers.zeros, (self.dim,))
        if self.num_classes is not None:
            start = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=1, out_axis=0)
            self.a_vals = self.param("a_vals", start, (self.num_classes, self.dim))
            self.p_vals = self.param("p_vals", start, (self.num_classes, self.dim))

    def encode(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Points of the ball."""
        require_shape("x", x, (len(x), self.dim))
        x, ball = as_numbers("x", x), self.ball()
        if self.train_x:
            at = inside(ball, ball.expmap0(self.xp[None], project=False))
            step = ball.expmap0(x / (1 - jnp.asarray(ball.c, x.dtype) * (at * at).sum()), project=False)  # lambda_p / 2 x
            h = add(jnp.asarray(ball.c, x.dtype), at, step)
        else:
            h = ball.expmap0(x, project=False)
        h = inside(ball, h)
        start = self.c if self.start_c is None else self.start_c
        return riemannian_gradient(h, jnp.asarray(start, h.dtype)) if self.riemannian else h

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n classes"]:
        """Class logits if the model has a softmax, else the points."""
        h = self.encode(x)
        if self.num_classes is None:
            return h
        ball = self.ball()
        return plane_logits(jnp.asarray(ball.c, h.dtype), h, ball.expmap0(self.p_vals, project=False), self.a_vals)

    def manifolds(self, params: Params) -> ManifoldTree:
        """All parameters are Euclidean: points are stored as tangent vectors at the origin."""
        return {name: Euclidean() for name in params}

    def ball(self) -> PoincareBall:
        """The ball into which features are mapped, with the trained or the given curvature."""
        return PoincareBall(self.raw_c[0] if self.train_c else self.c)
