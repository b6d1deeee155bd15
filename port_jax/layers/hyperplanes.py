"""Multinomial logistic regression: logits as signed distances to hyperplanes times the lengths of their normals.

They differ in how a hyperplane is given, and share the scale |a|_p of a normal, its Riemannian length: 2|a| for a tangent vector of
Euclidean length |a| at the origin of the ball, |a| on the hyperboloid. geoopt's `Distance2StereographicHyperplanes` is `Hyperplanes`: there
one point is both offset and normal, and the distance is not scaled.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.checks import as_numbers
from port_jax.initializers import Initializer, normal
from port_jax.layers.models_of_space import require_ball, require_time
from port_jax.manifolds import Manifold
from port_jax.manifolds.hyperboloid.unidirectional import unidirectional as unidirectional_lorentz
from port_jax.manifolds.stereographic.unidirectional import unidirectional
from port_jax.manifolds.trig import sqrt_or_zero

__all__ = ["GaneaMLR", "LorentzMLR", "PoincareMLR"]

_normals = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


class GaneaMLR(nn.Module):
    """logit_j = |a_j|_p d(x, H_j), H_j through the point p_j with the normal a_j (Ganea et al. 2018, equation 25).

    On a ball or a hyperboloid. Parameters: `points` [classes, ambient], **points** of the manifold, and `normals` [classes, d], tangent
    vectors at the origin that are transported to p_j.
    """

    num_classes: int

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch ambient"]) -> Float[Array, "*batch classes"]:
        x = as_numbers("x", x)
        width = x.shape[-1]
        points = self.param("points", normal(manifold, 0.1), (self.num_classes, width))
        normals = self.param("normals", _normals, (self.num_classes, width - manifold.ambient))
        at = manifold.transp0(points, manifold.from_coordinates0(normals))
        length = manifold.unit * sqrt_or_zero(jnp.sum(normals * normals, -1))
        distances = manifold.dist2planes(x.reshape(-1, width), points, at)  # pyright: ignore[reportAttributeAccessIssue]
        return (distances * length[None]).reshape(*x.shape[:-1], self.num_classes)


class PoincareMLR(nn.Module):
    """logit_j = 2|z_j| d(x, H_j), H_j through exp_0(r_j z_j/|z_j|) orthogonal to that ray (HNN++, Shimizu et al. 2021, equation 6).

    On a ball. Parameters: `kernel` [d, classes] with the columns z_j and `bias` [classes] with the r_j. The distance of H_j from the origin
    is 2 r_j. With `weight_norm` it is as the authors' code has it: the length is a parameter of its own, `length` [classes], and z_j =
    length_j kernel_j/|kernel_j|, which begins as kernel_j. A negative length changes the sign of the logit, and the side of the origin on
    which H_j is stays.
    """

    num_classes: int
    weight_norm: bool = False
    kernel_init: Initializer = _normals

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch d"]) -> Float[Array, "*batch classes"]:
        ball, x = require_ball(self, manifold), as_numbers("x", x)
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.num_classes))
        bias = self.param("bias", nn.initializers.zeros, (self.num_classes,))
        if not self.weight_norm:
            return unidirectional(x, kernel, bias, ball.k)
        square = jnp.sum(kernel * kernel, 0, keepdims=True)
        length = self.param("length", lambda _key: jnp.sqrt(square[0]))
        unit = kernel / jnp.sqrt(jnp.where(square > 0, square, 1))
        logits = unidirectional(x, unit, bias, ball.k)
        return jnp.broadcast_to(length, logits.shape) * logits


class LorentzMLR(nn.Module):
    """logit_j = |z_j| d(x, H_j), H_j through exp_0(a_j z_j/|z_j|) orthogonal to that ray (Bdeir et al. 2024, theorem 2).

    On a hyperboloid. Parameters: `kernel` [d, classes] with the columns z_j (the authors' `z` transposed) and `bias` [classes] with the
    distances a_j of the H_j from the origin (their `a`).
    """

    num_classes: int
    kernel_init: Initializer = _normals
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, manifold: Manifold, x: Float[Array, "*batch d+1"]) -> Float[Array, "*batch classes"]:
        require_time(self, manifold, "PoincareMLR")
        x = as_numbers("x", x)
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1] - 1, self.num_classes))
        bias = self.param("bias", self.bias_init, (self.num_classes,))
        return unidirectional_lorentz(x, kernel, bias, manifold.k)  # pyright: ignore[reportAttributeAccessIssue]
