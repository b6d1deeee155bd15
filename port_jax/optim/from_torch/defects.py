"""geoopt's defects: its manifolds as its optimizers use them, for runs that go on as their original would have gone on.

port_jax's manifolds are right where geoopt's are not (docs/differences.md lists the cases). An optimizer that a person makes moves points
by them. An optimizer that is translated moves them by the classes of this module, which have the names of those whose steps they take.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax import manifolds as right
from port_jax.linalg import identity
from port_jax.manifolds.base import Manifold, Point, Tangent, pytree
from port_jax.manifolds.hyperboloid import geodesics, metric
from port_jax.optim.from_torch.kinds import Kind

__all__ = ["BirkhoffPolytope", "BoundedDomain", "CanonicalStiefel", "Lorentz", "Pairs", "UpperHalf", "as_in_geoopt", "sentences"]

Number = Float[Array, "..."]

_SHORT = 1e-4
"""The least length of a tangent vector, and of y - cosh(d) x, in geoopt's formulas for the hyperboloid."""


@pytree
class CanonicalStiefel(right.CanonicalStiefel):
    """Its `proju` is its `egrad2rgrad`: of a tangent vector it doubles the part in the span of x."""

    def proju(self, x: Point, u: Tangent) -> Tangent:
        """U - X Uᵀ X."""
        return self.egrad2rgrad(x, u)


@pytree
class BirkhoffPolytope(right.BirkhoffPolytope):
    """Its `proju` is its `egrad2rgrad`, and its transport is its `proju`: both multiply a tangent vector by the point."""

    def proju(self, x: Point, u: Tangent) -> Tangent:
        """The projection of X ∘ u."""
        return self.egrad2rgrad(x, u)


@pytree
class UpperHalf(right.UpperHalf):
    """Its `proju` is its `egrad2rgrad`, and `component_inner` has too few axes for a batch."""

    def proju(self, x: Point, u: Tangent) -> Tangent:
        """The symmetric part of Y u Y."""
        return self.egrad2rgrad(x, u)

    def component_inner(self, x: Point, u: Tangent, v: Tangent | None = None) -> Number:
        """As `_trace_of_a_batch`."""
        return _trace_of_a_batch(self.inner(x, u, v), x)


@pytree
class BoundedDomain(right.BoundedDomain):
    """As `UpperHalf`; and with A = I - Z̄Z, the conjugate of the right one, as the inverse root of its metric."""

    def proju(self, x: Point, u: Tangent) -> Tangent:
        """`egrad2rgrad`."""
        return self.egrad2rgrad(x, u)

    def egrad2rgrad(self, x: Point, u: Tangent) -> Tangent:
        """The symmetric part of A u A."""
        a = identity(x.shape[-1], x) - jnp.conj(x) @ x
        return super().proju(x, a @ u @ a)

    def inner(self, x: Point, u: Tangent, v: Tangent | None = None, *, keepdim: bool = False) -> Number:
        """Re tr A⁻¹ U Ā⁻¹ V̄."""
        return super().inner(jnp.conj(x), u, v, keepdim=keepdim)

    def component_inner(self, x: Point, u: Tangent, v: Tangent | None = None) -> Number:
        """As `_trace_of_a_batch`."""
        return _trace_of_a_batch(self.inner(x, u, v), x)


@pytree
class Lorentz(right.Lorentz):
    """Lengths below 1e-4 count as 1e-4, in the exponential and in the two logarithms of the transport.

    Beside the hyperboloid, where a step of a trained k leaves its points, geoopt's formulas are those of all coordinates.
    """

    def expmap(self, x: Point, u: Tangent, *, norm_tan: bool = True, project: bool = True) -> Point:
        """cosh(n/√k) x + √k sinh(n/√k) u/n with n = max(|u|, 1e-4): for u = 0 it is off x by 5e-9."""
        k = self._k(x, u)
        u = metric.project_u(x, u, k) if norm_tan else u
        square = jnp.where(_beside(x, k), metric.inner(u, u), metric.tangent_norm2(x, u, k))
        moved = geodesics.expmap(x, u, k, jnp.maximum(square, _SHORT**2))
        return metric.project(moved, k) if project else moved

    def component_inner(self, x: Point, u: Tangent, v: Tangent | None = None) -> Number:
        """⟨u, v⟩ by all coordinates, at points of the hyperboloid as `Lorentz` has it."""
        return jnp.where(_beside(x, self._k(x)), metric.inner(u, u if v is None else v), super().component_inner(x, u, v))

    def transp(self, x: Point, y: Point, v: Tangent) -> Tangent:
        """v + f (PT v - v) with f = min(1, n/1e-4)² and n = |y - cosh(d) x| = √k sinh(d): over short ways, v stays as it is.

        PT acts on the part of v that is tangent at x; the rest stays, as in geoopt's formula.
        """
        k, tangent = self._k(x, y, v), self.proju(x, v)
        s = metric.chord(x, y, k).s
        near = v + jnp.minimum(1, 4 * k * s * (1 + s) / _SHORT**2) * (super().transp(x, y, tangent) - tangent)
        off = _beside(x, k)
        x, y, v = (jnp.where(off, a, 0) for a in (x, y, v))
        return jnp.where(off, _transported(x, y, v, k), near)


def _beside(x: Point, k: Number) -> Array:
    """Whether points are farther from the hyperboloid than rounding of ⟨x, x⟩ leaves them."""
    return jnp.abs(metric.inner(x, x) + k) > 4 * x.shape[-1] * jnp.finfo(x.dtype).eps * x[..., :1] ** 2


def _transported(x: Point, y: Point, v: Tangent, k: Number) -> Tangent:
    """v - ⟨n, v⟩ (n + m) with n = (y + ⟨x, y⟩ x/k)/|.| and m = (x + ⟨x, y⟩ y/k)/|.|, in which geoopt's distances have dropped out."""
    product = metric.inner(x, y) / k
    n, m = y + product * x, x + product * y
    n, m = (a / jnp.sqrt(jnp.maximum(metric.inner(a, a), _SHORT**2)) for a in (n, m))
    return v - metric.inner(n, v) * (n + m)


@pytree
class Pairs(right.Scaled):
    """A stereographic manifold, at scale 1, whose `inner` of a batch counts pairs of points, as its line search sums them."""

    def inner(self, x: Point, u: Tangent, v: Tangent | None = None, *, keepdim: bool = False) -> Number:
        """λ_{x_i}² ⟨u_j, v_j⟩ for all i and j of the last axis of the batch; with `keepdim` it is right."""
        if keepdim:
            return self.base.inner(x, u, v, keepdim=True)
        base: Any = self.base
        return base.lambda_x(x, keepdim=True) ** 2 * jnp.sum(u * (u if v is None else v), -1)


def _trace_of_a_batch(inner: Number, x: Point) -> Number:
    """The inner products [*batch] as [*batch, 1], which torch adds to arrays of the points' shape.

    With a batch of n matrices of size n, row i of every matrix has the product of matrix i. Where the shapes do not fit, geoopt raises;
    then each matrix has its own product.
    """
    short = inner.reshape((1,) * (x.ndim - inner.ndim - 1) + (*inner.shape, 1))
    fits = all(n in (1, m) for n, m in zip(short.shape, x.shape, strict=True))
    return short if fits else inner[..., None, None]


_OTHERWISE: dict[type, tuple[type, str]] = {
    right.CanonicalStiefel: (
        CanonicalStiefel, "stabilize doubles the part of a momentum in the span of its frame: geoopt's proju is not a projection",
    ),
    right.BirkhoffPolytope: (
        BirkhoffPolytope, "transport and stabilize multiply a momentum by its point: geoopt's transp projects y * v",
    ),
    right.UpperHalf: (
        UpperHalf,
        "stabilize multiplies a momentum by the imaginary part of its point from both sides, and the second moments of a batch of n "
        "matrices of size n belong to rows: geoopt's proju is not a projection, and its inner has too few axes",
    ),
    right.BoundedDomain: (
        BoundedDomain,
        "I - conj(Z) Z stands in gradients and second moments where its conjugate belongs, stabilize multiplies a momentum by it from "
        "both sides, and the second moments of a batch of n matrices of size n belong to rows: geoopt's metric is not invariant, its "
        "proju is not a projection, and its inner has too few axes",
    ),
    right.Lorentz: (
        Lorentz,
        "lengths below 1e-4 count as 1e-4, so that a point that stands still moves outwards by 5e-9 of its size, and short steps leave "
        "their momentum behind: geoopt raises norms",
    ),
}  # fmt: skip
_COUNTED = (
    right.Stereographic, right.StereographicExact, right.PoincareBall, right.PoincareBallExact, right.SphereProjection,
    right.SphereProjectionExact,
)  # fmt: skip
_PAIRS = "inner products of a batch count pairs of points: geoopt's inner without keepdim has shape (B, B)"
_STUCK = "After a search that moves nothing, the wolfe search finds nothing any more, as in geoopt: it begins at 0."


def as_in_geoopt(manifold: Any, search: bool) -> Manifold:
    """The manifold with geoopt's defects, factors and bases included; itself if it has none. search: as a line search uses it."""
    cls = type(manifold)  # the defects are those of these classes, not of what a person derives from them
    if cls is right.Scaled:
        base = as_in_geoopt(manifold.base, search)
        return manifold if base is manifold.base else right.Scaled(base, manifold.scale)
    if cls is right.ProductManifold:
        factors = [as_in_geoopt(factor, search) for factor in manifold.manifolds]
        same = all(new is old for new, old in zip(factors, manifold.manifolds, strict=True))
        return manifold if same else right.ProductManifold(*zip(factors, manifold.shapes, strict=True))
    if cls in _COUNTED and search:
        return Pairs(manifold)
    if cls not in _OTHERWISE:
        return manifold
    return _OTHERWISE[cls][0](**{field.name: getattr(manifold, field.name) for field in dataclasses.fields(cls)})


def sentences(kind: Kind, settings: Any, manifolds: Iterable[Manifold]) -> list[str]:
    """What an optimizer of this kind does as geoopt and not as port_jax would, one sentence for each of the manifolds that has it."""
    if not kind.defects:
        return []
    parts = [part for manifold in manifolds for part in _parts(manifold)]
    found = [f"On {part.__name__}, {_OTHERWISE[part][1]}." for part in parts if part in _OTHERWISE]
    if kind.search:
        found += [f"On {part.__name__}, {_PAIRS}." for part in parts if part in _COUNTED]
        found += [_STUCK] if settings["line_search_method"] == "wolfe" else []
    return list(dict.fromkeys(found))


def _parts(manifold: Any) -> list[type]:
    """The classes of a manifold's parts."""
    cls = type(manifold)
    if cls is right.Scaled:
        return _parts(manifold.base)
    return [part for factor in manifold.manifolds for part in _parts(factor)] if cls is right.ProductManifold else [cls]
