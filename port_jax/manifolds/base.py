"""The protocol that every manifold follows: geoopt's `Manifold`, with points on the last `ndim` axes."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

Point = Float[Array, "..."]
Tangent = Float[Array, "..."]


class Manifold:
    """A Riemannian manifold as a frozen pytree over pure functions.

    The methods have geoopt's names and argument order. Where geoopt takes `dim`, the last axis is meant; leading axes are a
    batch and broadcast between points and tangents. What a manifold cannot do raises `NotImplementedError` and says what it can.
    """

    ndim: ClassVar[int] = 0
    """How many trailing axes make one point: 0 for numbers, 1 for vectors, 2 for matrices."""
    reversible: ClassVar[bool] = False
    """Whether `retr` run backwards gives the start again, which samplers need."""

    # What every manifold has to give.

    def inner(self, x: Point, u: Tangent, v: Tangent | None = None, *, keepdim: bool = False) -> Float[Array, "..."]:
        """Riemannian inner product <u, v>_x (v defaults to u); `keepdim` keeps the point's axes with length 1."""
        self._lacks("inner")

    def proju(self, x: Point, u: Tangent) -> Tangent:
        """Orthogonal projection of an ambient vector onto the tangent space at x."""
        self._lacks("proju")

    def projx(self, x: Point) -> Point:
        """Projection of an ambient point onto the manifold."""
        self._lacks("projx")

    def egrad2rgrad(self, x: Point, u: Tangent) -> Tangent:
        """Riemannian gradient from the Euclidean one."""
        self._lacks("egrad2rgrad")

    def retr(self, x: Point, u: Tangent) -> Point:
        """Retraction: a first-order step from x along u that ends on the manifold."""
        self._lacks("retr")

    def transp(self, x: Point, y: Point, v: Tangent) -> Tangent:
        """Transport of v from the tangent space at x to the one at y."""
        self._lacks("transp")

    # What some have.

    def expmap(self, x: Point, u: Tangent) -> Point:
        """Exponential map."""
        self._lacks("expmap")

    def logmap(self, x: Point, y: Point) -> Tangent:
        """Logarithm: the tangent at x whose exponential is y."""
        self._lacks("logmap")

    def dist(self, x: Point, y: Point, *, keepdim: bool = False) -> Float[Array, "..."]:
        """Geodesic distance."""
        self._lacks("dist")

    def random(self, key: PRNGKeyArray, *size: int, dtype: Any = None, **kwargs: Any) -> Point:
        """Random points of shape `size`."""
        self._lacks("random")

    def origin(self, *size: int, dtype: Any = None) -> Point:
        """The manifold's canonical point, repeated to shape `size`."""
        self._lacks("origin")

    # What follows from these.

    def dist2(self, x: Point, y: Point, *, keepdim: bool = False) -> Float[Array, "..."]:
        """Squared geodesic distance."""
        return self.dist(x, y, keepdim=keepdim) ** 2

    def norm(self, x: Point, u: Tangent, *, keepdim: bool = False) -> Float[Array, "..."]:
        """Riemannian norm sqrt(<u, u>_x), with gradient 0 at u = 0."""
        square = self.inner(x, u, keepdim=keepdim)
        return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)

    def component_inner(self, x: Point, u: Tangent, v: Tangent | None = None) -> Float[Array, "..."]:
        """Inner product per component for adaptive optimizers: one number a point, with the point's axes kept at length 1."""
        return self.inner(x, u, v, keepdim=True)

    def expmap_transp(self, x: Point, u: Tangent, v: Tangent) -> tuple[Point, Tangent]:
        """The point exp_x(u), and v transported there."""
        y = self.expmap(x, u)
        return y, self.transp(x, y, v)

    def retr_transp(self, x: Point, u: Tangent, v: Tangent) -> tuple[Point, Tangent]:
        """The point retr_x(u), and v transported there."""
        y = self.retr(x, u)
        return y, self.transp(x, y, v)

    def transp_follow_retr(self, x: Point, u: Tangent, v: Tangent) -> Tangent:
        """v transported along the retraction of u."""
        return self.retr_transp(x, u, v)[1]

    def transp_follow_expmap(self, x: Point, u: Tangent, v: Tangent) -> Tangent:
        """v transported along the geodesic of u."""
        return self.expmap_transp(x, u, v)[1]

    def _lacks(self, operation: str) -> NoReturn:
        has = sorted(name for name in vars(Manifold) if not name.startswith("_") and getattr(type(self), name) is not vars(Manifold)[name])
        raise NotImplementedError(f"{type(self).__name__} has no {operation}; it has {', '.join(has)}")
