"""Euclidean space: arrays whose last `ndim` axes make one point."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.manifolds import trig
from port_jax.manifolds.base import Manifold, Point, Tangent, pytree
from port_jax.manifolds.sizes import require_size

__all__ = ["Euclidean"]


@pytree
class Euclidean(Manifold):
    """R^n. With `ndim=0` every entry is a point of its own, and inner products, norms and distances are elementwise."""

    reversible: ClassVar[bool] = True
    flat: ClassVar[bool] = True

    ndim: int = dataclasses.field(default=0, metadata={"static": True})  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        if not isinstance(self.ndim, int) or self.ndim < 0:
            raise ValueError(f"Euclidean(ndim={self.ndim!r}): ndim is the number of trailing axes of a point, an integer >= 0")

    def _sum(self, x: Array, keepdim: bool) -> Array:
        return jnp.sum(x, axis=tuple(range(-self.ndim, 0)), keepdims=keepdim) if self.ndim else x

    def inner(self, x: Point, u: Tangent, v: Tangent | None = None, *, keepdim: bool = False) -> Float[Array, "..."]:
        """The sum of u v over the point's axes."""
        inner = self._sum(u * (u if v is None else v), keepdim)
        batch = x.shape[: x.ndim - self.ndim] + (1,) * (self.ndim if keepdim else 0)
        return jnp.broadcast_to(inner, jnp.broadcast_shapes(batch, inner.shape))

    def component_inner(self, x: Point, u: Tangent, v: Tangent | None = None) -> Float[Array, "..."]:
        """u v entry by entry: adaptive optimizers scale each coordinate on its own."""
        inner = u * (u if v is None else v)
        return jnp.broadcast_to(inner, jnp.broadcast_shapes(x.shape, inner.shape))

    def norm(self, x: Point, u: Tangent, *, keepdim: bool = False) -> Float[Array, "..."]:
        """|u|, with gradient 0 at u = 0."""
        return self._length(u, keepdim)

    def _length(self, u: Array, keepdim: bool) -> Array:
        # u sign(u) is |u| with derivative 0 at 0
        return trig.sqrt_or_zero(self._sum(u * u, keepdim)) if self.ndim else u * jnp.sign(u)

    def proju(self, x: Point, u: Tangent) -> Tangent:
        """u."""
        return jnp.broadcast_to(u, jnp.broadcast_shapes(x.shape, u.shape))

    def projx(self, x: Point) -> Point:
        """x."""
        return x

    def egrad2rgrad(self, x: Point, u: Tangent) -> Tangent:
        """u."""
        return self.proju(x, u)

    def retr(self, x: Point, u: Tangent) -> Point:
        """x + u."""
        return x + u

    def expmap(self, x: Point, u: Tangent) -> Point:
        """x + u."""
        return x + u

    def logmap(self, x: Point, y: Point) -> Tangent:
        """y - x."""
        return y - x

    def dist(self, x: Point, y: Point, *, keepdim: bool = False) -> Float[Array, "..."]:
        """|x - y|, with gradient 0 at x = y."""
        return self._length(x - y, keepdim)

    def dist2(self, x: Point, y: Point, *, keepdim: bool = False) -> Float[Array, "..."]:
        """|x - y|²."""
        w = x - y
        return self._sum(w * w, keepdim)

    def transp(self, x: Point, y: Point, v: Tangent) -> Tangent:
        """v."""
        return jnp.broadcast_to(v, jnp.broadcast_shapes(x.shape, y.shape, v.shape))

    @property
    def curvature(self) -> float:
        """0."""
        return 0.0

    def expmap0(self, u: Tangent) -> Point:
        """u."""
        return u

    def logmap0(self, x: Point) -> Tangent:
        """x."""
        return x

    def transp0(self, y: Point, u: Tangent) -> Tangent:
        """u."""
        return self.proju(y, u)

    def transp0back(self, y: Point, u: Tangent) -> Tangent:
        """u."""
        return self.proju(y, u)

    def reach(self, v: Point, longest: float | None = None) -> Float[Array, "*batch 1"]:
        """1: there is no farthest distance."""
        return jnp.ones_like(v[..., :1])

    def mobius_add(self, x: Point, y: Point) -> Point:
        """x + y."""
        return x + y

    def random_normal(
        self, key: PRNGKeyArray, *size: int, mean: ArrayLike = 0.0, std: ArrayLike = 1.0, dtype: DTypeLike | None = None
    ) -> Float[Array, "..."]:
        """Normal numbers of shape `size`; ValueError for fewer axes than a point has."""
        require_size(self, "random_normal", size, mean=mean, std=std)
        sample = jax.random.normal(key, size, dtype or jnp.result_type(float))
        return sample * jnp.asarray(std, sample.dtype) + jnp.asarray(mean, sample.dtype)

    def random(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None, **kwargs: Any) -> Point:
        """`random_normal`."""
        require_size(self, "random", size)
        return self.random_normal(key, *size, dtype=dtype, **kwargs)

    def origin(self, *size: int, dtype: DTypeLike | None = None) -> Point:
        """Zeros of shape `size`; ValueError for fewer axes than a point has."""
        require_size(self, "origin", size)
        return jnp.zeros(size, dtype or jnp.result_type(float))
