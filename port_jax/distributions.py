"""The normal distribution wrapped around a point of hyperbolic space, with its density."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.checks import as_numbers
from port_jax.manifolds import trig
from port_jax.manifolds.base import Manifold, concrete, pytree, require_positive

__all__ = ["WrappedNormal"]

Number = Float[Array, "..."]


@pytree
class WrappedNormal:
    """exp_mean(v) for v ~ N(0, diag(scale²)) in an orthonormal frame of the tangent space at the mean (Nagano et al. 2019).

    On `PoincareBall`, `Stereographic`, `SphereProjection` and `Lorentz`. The frame is that of the coordinate axes at the origin,
    transported to the mean. With respect to the Riemannian volume, the density at exp_mean(v) with r = |v| is

        log p = log N(v; 0, diag(scale²)) - (d - 1) log (sin_k(r)/r),

    where sin_k(r) = sinh(√c r)/√c for curvature k = -c. On a sphere this counts the shortest path only: the
    vectors v that go around the sphere and end at the same point are not added.
    """

    manifold: Manifold
    mean: Float[Array, "*batch n"]
    scale: Float[Array, "*batch d"] | float = 1.0

    def __post_init__(self) -> None:
        if self.manifold.flat or not self.manifold.has("curvature", "transp0", "transp0back"):
            raise TypeError(f"WrappedNormal: manifold is {self.manifold.name}; it has to be a stereographic manifold or Lorentz")
        require_positive("WrappedNormal", "scale", self.scale, "it is a standard deviation")
        if all(concrete(leaf) is not None for leaf in jax.tree.leaves((self.manifold, self.mean))):
            self.manifold.assert_check_point_on_manifold(self.mean, atol=1e-3, rtol=1e-3)

    @property
    def dim(self) -> int:
        """Dimension of the manifold."""
        return self.mean.shape[-1] - self.manifold.ambient

    def sample(self, key: PRNGKeyArray, *size: int) -> Float[Array, "*size *batch n"]:
        """Points of shape `[*size, *batch, n]`, differentiable in mean, scale and curvature."""
        return self.from_noise(jax.random.normal(key, (*size, *self.mean.shape[:-1], self.dim), self.mean.dtype))

    def from_noise(self, noise: Float[Array, "*size *batch d"]) -> Float[Array, "*size *batch n"]:
        """The points that standard normal numbers give, exp_mean(scale noise): `sample` with a source of one's own.

        torch and JAX draw other numbers from one seed. Noise that is given to both makes their samples the same.
        """
        noise = as_numbers("noise", noise)
        if noise.shape[-1] != self.dim:
            raise ValueError(f"noise: the last axis has {noise.shape[-1]} numbers; {self.manifold.name} here has dimension {self.dim}")
        return self.manifold.expmap(self.mean, self._from_frame((self.scale * noise).astype(self.mean.dtype)))

    def log_prob(self, x: Float[Array, "*shape n"]) -> Float[Array, "*shape"]:
        """Log-density with respect to the Riemannian volume."""
        v = self._to_frame(self.manifold.logmap(self.mean, x))
        scale = jnp.broadcast_to(jnp.asarray(self.scale, v.dtype), v.shape)
        square = jnp.sum(v * v, -1)
        normal = -0.5 * jnp.sum((v / scale) ** 2, -1) - jnp.sum(jnp.log(scale), -1) - 0.5 * self.dim * math.log(2 * math.pi)
        curvature = jnp.asarray(self.manifold.curvature, v.dtype)  # [..., 1] where it has axes
        return normal - (self.dim - 1) * _log_sin_ratio((curvature[..., 0] if curvature.ndim else curvature) * square)

    def _from_frame(self, v: Float[Array, "*shape d"]) -> Float[Array, "*shape n"]:
        return self.manifold.transp0(self.mean, self.manifold.from_coordinates0(v / self.manifold.unit))

    def _to_frame(self, u: Float[Array, "*shape n"]) -> Float[Array, "*shape d"]:
        return self.manifold.unit * self.manifold.coordinates0(self.manifold.transp0back(self.mean, u))


def _log_sin_ratio(s: Number) -> Number:
    """log(sin_k(r)/r) at s = k r², without overflow where sinh overflows."""
    far = s < -100
    r = jnp.sqrt(jnp.where(far, -s, 1))
    near = jnp.log(trig.sin_ratio(jnp.where(far, 0, s)))
    return jnp.where(far, r + jnp.log1p(-jnp.exp(-2 * r)) - jnp.log(2 * r), near)
