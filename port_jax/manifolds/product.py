"""The product of manifolds, whose points are the factors' points joined into one vector."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.manifolds import trig
from port_jax.manifolds.base import Manifold, Verdict, pytree
from port_jax.manifolds.sizes import require_size

__all__ = ["ProductManifold", "Shape", "Vector"]

Number = Float[Array, "..."]
Vector = Float[Array, "*batch d"]
Shape = int | tuple[int, ...]


@pytree
class ProductManifold(Manifold):
    """M₁ × … × Mₙ: inner products and squared distances are sums, everything else acts on each part.

        ProductManifold((Sphere(), 3), (Stiefel(), (4, 2)))      # points have 3 + 8 coordinates

    Each factor has the shape of one of its points, or of a stack of them; a point of the product is their entries, flattened and
    joined on the last axis.
    """

    ndim: ClassVar[int] = 1

    manifolds: tuple[Manifold, ...]
    shapes: tuple[tuple[int, ...], ...] = field(metadata={"static": True})

    def __init__(self, *manifolds_with_shape: tuple[Manifold, Shape]) -> None:
        if not manifolds_with_shape:
            raise ValueError(f"{self.name}: no factor is given; pass pairs (manifold, shape of a point)")
        manifolds, shapes = [], []
        for i, (manifold, shape) in enumerate(manifolds_with_shape):
            shape = (shape,) if isinstance(shape, int) else tuple(shape)
            ok, reason = manifold._check_shape(np.broadcast_to(0.0, shape), "shape")
            if not ok:
                raise ValueError(f"{self.name}: the shape of factor {i} does not fit {manifold.name}: {reason}")
            manifolds.append(manifold)
            shapes.append(shape)
        object.__setattr__(self, "manifolds", tuple(manifolds))
        object.__setattr__(self, "shapes", tuple(shapes))

    @property
    def reversible(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether every factor is reversible."""
        return all(manifold.reversible for manifold in self.manifolds)

    @property
    def any_origin(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether a factor's origin is a choice among equal points."""
        return any(manifold.any_origin for manifold in self.manifolds)

    def beside(self, shape: tuple[int, ...]) -> ProductManifold:
        """Each factor beside its part of the array."""
        factors = [m.beside((*shape[:-1], *own)) for m, own in zip(self.manifolds, self.shapes)]
        return type(self)(*zip(factors, self.shapes)) if any(a is not b for a, b in zip(factors, self.manifolds)) else self

    @property
    def n_elements(self) -> int:
        """The length of a point."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def n_manifolds(self) -> int:
        """The number of factors."""
        return len(self.manifolds)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The slice of each part in a point."""
        ends = [0, *itertools.accumulate(math.prod(shape) for shape in self.shapes)]
        return tuple(slice(a, b) for a, b in itertools.pairwise(ends))

    @classmethod
    def from_point(cls, *parts: tuple[Manifold, Array], batch_dims: int = 0) -> ProductManifold:
        """The product manifold of the given points: pairs (manifold, array), whose first `batch_dims` axes are a common batch."""
        batches = {np.shape(array)[:batch_dims] for _, array in parts}
        if len(batches) > 1:
            raise ValueError(f"{cls.__name__}.from_point: the parts have the batch shapes {sorted(batches)}; they have to be equal")
        return cls(*((manifold, np.shape(array)[batch_dims:]) for manifold, array in parts))

    def take_submanifold_value(self, x: Vector, i: int, reshape: bool = True) -> Array:
        """The part of x that belongs to factor i, in the factor's shape unless `reshape` is False.

        ValueError, here and in every other method, for a vector that has not `n_elements` entries.
        """
        self._require_length(x)
        part = x[..., self.slices[i]]
        return part.reshape(*part.shape[:-1], *self.shapes[i]) if reshape else part

    def unpack_tensor(self, x: Vector) -> tuple[Array, ...]:
        """The parts of a point."""
        return tuple(self.take_submanifold_value(x, i) for i in range(self.n_manifolds))

    def pack_point(self, *parts: Array) -> Vector:
        """A point from its parts, each `[*batch, *shape]`; batches broadcast."""
        if len(parts) != self.n_manifolds:
            raise ValueError(f"{self.name}.pack_point: {len(parts)} parts are given for {self.n_manifolds} factors")
        flat = []
        for i, (part, shape) in enumerate(zip(parts, self.shapes)):
            lead = np.ndim(part) - len(shape)
            if np.shape(part)[max(lead, 0) :] != shape:
                raise ValueError(f"{self.name}.pack_point: part {i} has shape {np.shape(part)}; its last axes have to be {shape}")
            flat.append(jnp.reshape(part, (*np.shape(part)[:lead], math.prod(shape))))
        batch = jnp.broadcast_shapes(*(part.shape[:-1] for part in flat))
        return jnp.concatenate([jnp.broadcast_to(part, (*batch, part.shape[-1])) for part in flat], -1)

    def inner(self, x: Vector, u: Vector, v: Vector | None = None, *, keepdim: bool = False) -> Number:
        """Σᵢ ⟨uᵢ, vᵢ⟩ over the factors."""
        return self._sum(lambda m, x, u, v: m.inner(x, u, v, keepdim=True), [x, u, u if v is None else v], keepdim)

    def component_inner(self, x: Vector, u: Vector, v: Vector | None = None) -> Vector:
        """The factors' component-wise products, each repeated over its part."""
        parts = self._parts(x, u, u if v is None else v)
        return self.pack_point(*(jnp.broadcast_to(m.component_inner(*a), a[0].shape) for m, a in parts))

    def projx(self, x: Vector) -> Vector:
        """Each part by its factor's `projx`."""
        return self._each(lambda m, x: m.projx(x), x)

    def proju(self, x: Vector, u: Vector) -> Vector:
        """Each part by its factor's `proju`."""
        return self._each(lambda m, x, u: m.proju(x, u), x, u)

    def egrad2rgrad(self, x: Vector, u: Vector) -> Vector:
        """Each part by its factor's `egrad2rgrad`."""
        return self._each(lambda m, x, u: m.egrad2rgrad(x, u), x, u)

    def retr(self, x: Vector, u: Vector) -> Vector:
        """Each part by its factor's `retr`."""
        return self._each(lambda m, x, u: m.retr(x, u), x, u)

    def expmap(self, x: Vector, u: Vector) -> Vector:
        """Each part by its factor's `expmap`."""
        return self._each(lambda m, x, u: m.expmap(x, u), x, u)

    def logmap(self, x: Vector, y: Vector) -> Vector:
        """Each part by its factor's `logmap`."""
        return self._each(lambda m, x, y: m.logmap(x, y), x, y)

    def transp(self, x: Vector, y: Vector, v: Vector) -> Vector:
        """Each part by its factor's `transp`."""
        return self._each(lambda m, x, y, v: m.transp(x, y, v), x, y, v)

    def transp_follow_retr(self, x: Vector, u: Vector, v: Vector) -> Vector:
        """Each part by its factor's `transp_follow_retr`."""
        return self._each(lambda m, x, u, v: m.transp_follow_retr(x, u, v), x, u, v)

    def transp_follow_expmap(self, x: Vector, u: Vector, v: Vector) -> Vector:
        """Each part by its factor's `transp_follow_expmap`."""
        return self._each(lambda m, x, u, v: m.transp_follow_expmap(x, u, v), x, u, v)

    def retr_transp(self, x: Vector, u: Vector, v: Vector) -> tuple[Vector, Vector]:
        """Each part by its factor's `retr_transp`."""
        points, vectors = zip(*(m.retr_transp(*parts) for m, parts in self._parts(x, u, v)))
        return self.pack_point(*points), self.pack_point(*vectors)

    def expmap_transp(self, x: Vector, u: Vector, v: Vector) -> tuple[Vector, Vector]:
        """Each part by its factor's `expmap_transp`."""
        points, vectors = zip(*(m.expmap_transp(*parts) for m, parts in self._parts(x, u, v)))
        return self.pack_point(*points), self.pack_point(*vectors)

    def retr_transp_ambient(self, x: Vector, u: Vector, v: Vector) -> tuple[Vector, Vector]:
        """Each part by its factor's `retr_transp_ambient`."""
        points, vectors = zip(*(m.retr_transp_ambient(*parts) for m, parts in self._parts(x, u, v)))
        return self.pack_point(*points), self.pack_point(*vectors)

    def gradient(self, x: Vector, grad: Vector) -> Vector:
        """Each part by its factor's `gradient`."""
        return self._each(lambda m, x, g: m.gradient(x, g), x, grad)

    def sqrt_cometric(self, x: Vector, noise: Vector) -> Vector:
        """Each part by its factor's `sqrt_cometric`."""
        return self._each(lambda m, x, n: m.sqrt_cometric(x, n), x, noise)

    def dist2(self, x: Vector, y: Vector, *, keepdim: bool = False) -> Number:
        """Σᵢ dᵢ² over the factors."""
        return self._sum(lambda m, x, y: m.dist2(x, y, keepdim=True), [x, y], keepdim)

    def dist(self, x: Vector, y: Vector, *, keepdim: bool = False) -> Number:
        """√Σ dᵢ², with gradient 0 where x = y; geoopt clamps the sum at 1e-15, so that its smallest distance is 3e-8."""
        return trig.sqrt_or_zero(self.dist2(x, y, keepdim=keepdim))

    def narrowed(self, x: Vector, dtype: DTypeLike) -> Vector:
        """Each part by its factor's `narrowed`."""
        return self._each(lambda m, x: m.narrowed(x, dtype), x)

    def random_combined(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None) -> Vector:
        """Each factor's `random`, with a key of its own; ValueError if the last axis has not `n_elements` entries."""
        require_size(self, "random_combined", size)
        keys = jax.random.split(key, self.n_manifolds)
        draws = (m.random(k, *size[:-1], *s, dtype=dtype) for m, k, s in zip(self.manifolds, keys, self.shapes))
        return self.pack_point(*draws)

    def random(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None, **kwargs: Any) -> Vector:
        """`random_combined`."""
        require_size(self, "random", size)
        return self.random_combined(key, *size, dtype=dtype, **kwargs)

    def origin(self, *size: int, dtype: DTypeLike | None = None) -> Vector:
        """The factors' origins; ValueError if the last axis has not `n_elements` entries."""
        require_size(self, "origin", size)
        return self.pack_point(*(m.origin(*size[:-1], *s, dtype=dtype) for m, s in zip(self.manifolds, self.shapes)))

    def _require_length(self, *arrays: Any) -> None:
        for x in arrays:
            if np.shape(x)[-1:] != (self.n_elements,):
                raise ValueError(
                    f"{self.name}: an array has shape {np.shape(x)}; its last axis has to have {self.n_elements} entries, "
                    f"as many as the factors' points together: {', '.join(map(str, self.shapes))}"
                )

    def _parts(self, *arrays: Vector) -> list[tuple[Any, tuple[Array, ...]]]:
        """(factor, parts of the arrays that belong to it) for each factor; batches of different depth broadcast as vectors do."""
        self._require_length(*arrays)  # before an axis of 1 is broadcast
        broadcast = jnp.broadcast_arrays(*arrays)
        taken = [tuple(self.take_submanifold_value(a, i) for a in broadcast) for i in range(self.n_manifolds)]
        return list(zip(self.manifolds, taken))

    def _each(self, operation: Callable[..., Array], *arrays: Vector) -> Vector:
        """`operation(factor, *parts)` for each factor, packed."""
        return self.pack_point(*(operation(m, *parts) for m, parts in self._parts(*arrays)))

    def _sum(self, operation: Callable[..., Array], arrays: Sequence[Vector], keepdim: bool) -> Number:
        """Numbers per point of each factor, with the point's axes kept, summed over everything but the batch."""
        batch = jnp.broadcast_shapes(*(a.shape[:-1] for a in arrays))
        total = jnp.zeros(batch, arrays[0].real.dtype)
        for manifold, parts in self._parts(*arrays):
            total = total + jnp.sum(operation(manifold, *parts).reshape(*batch, -1), -1)
        return total[..., None] if keepdim else total

    def _check_shape(self, x: Any, name: str) -> Verdict:
        ok, reason = super()._check_shape(x, name)
        if ok and np.shape(x)[-1] != self.n_elements:
            return False, f"{name} has shape {np.shape(x)}; the factors' points have {self.n_elements} entries together"
        return ok, reason

    def _check_point_on_manifold(self, x: Vector, *, atol: float, rtol: float) -> Verdict:
        return self._first_failure(lambda m, x: m.check_point_on_manifold(x, explain=True, atol=atol, rtol=rtol), x)

    def _check_vector_on_tangent(self, x: Vector, u: Vector, *, atol: float, rtol: float) -> Verdict:
        return self._first_failure(lambda m, x, u: m.check_vector_on_tangent(x, u, ok_point=True, explain=True, atol=atol, rtol=rtol), x, u)

    def _first_failure(self, check: Callable[..., Verdict], *arrays: Vector) -> Verdict:
        for i, manifold in enumerate(self.manifolds):
            ok, reason = check(manifold, *(self.take_submanifold_value(a, i) for a in arrays))
            if not ok:
                return False, f"factor {i}, {manifold.name}: {reason}"
        return True, None
