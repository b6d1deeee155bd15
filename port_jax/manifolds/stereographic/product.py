"""The product of stereographic manifolds, with their gyrovector operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.manifolds import trig
from port_jax.manifolds.base import Manifold, pytree
from port_jax.manifolds.product import ProductManifold, Shape, Vector
from port_jax.manifolds.scaled import Scaled
from port_jax.manifolds.sizes import require_size
from port_jax.manifolds.stereographic.model import StereographicModel

__all__ = ["StereographicProductManifold"]

Number = Float[Array, "..."]


@pytree
class StereographicProductManifold(ProductManifold):
    """A product of balls, projected spheres and flat spaces: each operation of `Stereographic` acts on each part."""

    def __init__(self, *manifolds_with_shape: tuple[Manifold, Shape]) -> None:
        for i, (manifold, _) in enumerate(manifolds_with_shape):
            model = manifold
            while isinstance(model, Scaled):
                model = model.base
            if not isinstance(model, StereographicModel):
                raise TypeError(
                    f"{self.name}: factor {i} is {manifold.name}; every factor has to be Stereographic, PoincareBall or "
                    "SphereProjection, or one of these scaled (ProductManifold takes any manifold)"
                )
        super().__init__(*manifolds_with_shape)

    def dist2plane(self, x: Vector, p: Vector, a: Vector, *, keepdim: bool = False, signed: bool = False, scaled: bool = False) -> Number:
        """√Σ dᵢ² of the distances to the parts' hyperplanes; `signed` has no effect, as the result is a root of squares."""
        planes = self._parts(x, p, a)
        parts = [m.dist2plane(*part, signed=signed, scaled=scaled) for m, part in planes]
        total = trig.sqrt_or_zero(jnp.sum(jnp.stack(parts) ** 2, 0))
        return total[..., None] if keepdim else total

    def dist0(self, x: Vector, *, keepdim: bool = False) -> Number:
        """Distance to the origin."""
        return self.dist(jnp.zeros_like(x), x, keepdim=keepdim)

    def expmap0(self, u: Vector, *, project: bool = True) -> Vector:
        """Exponential map at the origin."""
        return self._each(lambda m, u: m.expmap0(u, project=project), u)

    def logmap0(self, x: Vector) -> Vector:
        """Logarithm at the origin."""
        return self._each(lambda m, x: m.logmap0(x), x)

    def transp0(self, y: Vector, u: Vector) -> Vector:
        """Parallel transport from the origin to y."""
        return self._each(lambda m, y, u: m.transp0(y, u), y, u)

    def transp0back(self, y: Vector, u: Vector) -> Vector:
        """Parallel transport from y to the origin."""
        return self._each(lambda m, y, u: m.transp0back(y, u), y, u)

    def geodesic(self, t: Number, x: Vector, y: Vector) -> Vector:
        """The point at time t from x (0) to y (1); t broadcasts against points with length 1 on the last axis."""
        parts = zip(self._parts(x, y), self.shapes)
        return self.pack_point(*(m.geodesic(_spread(t, shape), *part) for (m, part), shape in parts))

    def geodesic_unit(self, t: Number, x: Vector, u: Vector, *, project: bool = True) -> Vector:
        """Each part at arc length t from its own start, in the direction of its own u."""
        parts = zip(self._parts(x, u), self.shapes)
        return self.pack_point(*(m.geodesic_unit(_spread(t, shape), *part, project=project) for (m, part), shape in parts))

    def mobius_add(self, x: Vector, y: Vector, *, project: bool = True) -> Vector:
        """Moebius addition."""
        return self._each(lambda m, x, y: m.mobius_add(x, y, project=project), x, y)

    def mobius_sub(self, x: Vector, y: Vector, *, project: bool = True) -> Vector:
        """Moebius addition of -y."""
        return self._each(lambda m, x, y: m.mobius_sub(x, y, project=project), x, y)

    def mobius_coadd(self, x: Vector, y: Vector, *, project: bool = True) -> Vector:
        """Moebius coaddition."""
        return self._each(lambda m, x, y: m.mobius_coadd(x, y, project=project), x, y)

    def mobius_cosub(self, x: Vector, y: Vector, *, project: bool = True) -> Vector:
        """Moebius coaddition of -y."""
        return self._each(lambda m, x, y: m.mobius_cosub(x, y, project=project), x, y)

    def mobius_scalar_mul(self, r: Number, x: Vector, *, project: bool = True) -> Vector:
        """r times each part along its ray; r broadcasts against points with length 1 on the last axis."""
        parts = zip(self._parts(x), self.shapes)
        return self.pack_point(*(m.mobius_scalar_mul(_spread(r, shape), *part, project=project) for (m, part), shape in parts))

    def mobius_pointwise_mul(self, w: Vector, x: Vector, *, project: bool = True) -> Vector:
        """Coordinates multiplied by w in the tangent space of the origin; w is a number, or one for each coordinate."""
        self._require_length(x)
        w = jnp.broadcast_to(w, jnp.broadcast_shapes(np.shape(w), np.shape(x)))
        return self._each(lambda m, w, x: m.mobius_pointwise_mul(w, x, project=project), w, x)

    def take_submanifold_matrix(self, x: Float[Array, "*batch d d"], i: int, reshape: bool = True) -> Array:
        """The diagonal block of a matrix that belongs to factor i, as `[*batch, *shape, *shape]` unless `reshape` is False.

        ValueError for a matrix that has not `n_elements` rows and columns.
        """
        self._require_length(x, x[..., 0])
        where = self.slices[i]
        part = x[..., where, where]
        return part.reshape(*part.shape[:-2], *self.shapes[i], *self.shapes[i]) if reshape else part

    def mobius_matvec(self, m: Float[Array, "*batch d d"], x: Vector, *, project: bool = True) -> Vector:
        """The diagonal blocks of m applied to the parts, which are vectors, in the tangent space of the origin."""
        values = [
            manifold.mobius_matvec(self.take_submanifold_matrix(m, i), self.take_submanifold_value(x, i), project=project)
            for i, manifold in enumerate(self._stereographic())
        ]
        return self.pack_point(*values)

    def mobius_fn_apply(self, fn: Callable[..., Array], x: Vector, *args: Any, project: bool = True, **kwargs: Any) -> Vector:
        """fn applied to each part in the tangent space of the origin."""
        return self._each(lambda m, x: m.mobius_fn_apply(fn, x, *args, project=project, **kwargs), x)

    def mobius_fn_apply_chain(self, x: Vector, *fns: Callable[[Array], Array], project: bool = True) -> Vector:
        """Functions applied one after another to each part in the tangent space of the origin."""
        return self._each(lambda m, x: m.mobius_fn_apply_chain(x, *fns, project=project), x)

    def gyration(self, x: Vector, y: Vector, z: Vector) -> Vector:
        """gyr[x, y] z."""
        return self._each(lambda m, x, y, z: m.gyration(x, y, z), x, y, z)

    def antipode(self, x: Vector) -> Vector:
        """The opposite point of each part."""
        return self._each(lambda m, x: m.antipode(x), x)

    def wrapped_normal(self, key: PRNGKeyArray, *size: int, mean: Vector, std: ArrayLike = 1.0, dtype: DTypeLike | None = None) -> Vector:
        """Each part's wrapped normal around its part of `mean`; `std` is a number, or one for each coordinate.

        ValueError if the last axis of the size or of `mean` has not `n_elements` entries, or `mean` cannot be broadcast to the size.
        """
        self._require_length(mean)
        require_size(self, "wrapped_normal", size, mean=mean)
        std = jnp.broadcast_to(jnp.asarray(std, mean.dtype), mean.shape)
        draws = [
            m.wrapped_normal(k, *size[:-1], *shape, mean=mean_, std=std_, dtype=dtype)
            for (m, (mean_, std_)), k, shape in zip(self._parts(mean, std), jax.random.split(key, self.n_manifolds), self.shapes)
        ]
        return self.pack_point(*draws)

    def _stereographic(self) -> tuple[Any, ...]:
        return self.manifolds


def _spread(t: Number, shape: tuple[int, ...]) -> Number:
    """A number, or numbers `[*batch, 1]`, as `[*batch, 1, …]` with as many axes as a part of this shape has."""
    t = jnp.asarray(t)
    return t.reshape(*t.shape[:-1], *(1 for _ in shape)) if t.ndim else t
