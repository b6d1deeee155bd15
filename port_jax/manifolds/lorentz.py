"""The hyperboloid model of hyperbolic space."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.manifolds import lorentz_math as math
from port_jax.manifolds.base import Manifold, Tangent, Verdict, pytree, require_positive

Vector = Float[Array, "*batch d+1"]
Number = Float[Array, "..."]


@pytree
class Lorentz(Manifold):
    """The hyperboloid -x0² + |xs|² = -k with x0 > 0: k is a squared radius, the curvature is -1/k.

    Points have d + 1 coordinates, time first. An array-valued k broadcasts against points, with length 1 on their last axis.
    """

    ndim: ClassVar[int] = 1

    k: Any = 1.0

    def __post_init__(self) -> None:
        remedy = "k is a squared radius, so curvature -0.7 is k=1/0.7"
        require_positive(self.name, "k", self.k, remedy)

    def _k(self, *arrays: Array) -> Array:
        return jnp.asarray(self.k, jnp.result_type(*arrays))

    # The metric.

    def inner(self, x: Vector, u: Tangent, v: Tangent | None = None, *, keepdim: bool = False) -> Number:
        """Minkowski inner product -u0 v0 + <us, vs>; x is not used."""
        return _drop(math.inner(u, u if v is None else v), keepdim)

    def inner0(self, v: Vector, *, keepdim: bool = False) -> Number:
        """Minkowski inner product of v with the origin, -sqrt(k) v0."""
        return _drop(math.inner0(v, self._k(v)), keepdim)

    def norm(self, x: Vector, u: Tangent, *, keepdim: bool = False) -> Number:
        """sqrt(<u, u>) of u tangent at x, with gradient 0 at u = 0."""
        return _drop(math.norm(x, u, self._k(x, u)), keepdim)

    def component_inner(self, x: Vector, u: Tangent, v: Tangent | None = None) -> Number:
        """`inner` with keepdim; <u, u> as a sum of squares, which rounding cannot make negative."""
        return math.tangent_norm2(x, u, self._k(x, u)) if v is None else math.inner(u, v)

    def egrad2rgrad(self, x: Vector, u: Tangent) -> Tangent:
        """Riemannian gradient: time coordinate negated, then projected."""
        return math.egrad2rgrad(x, u, self._k(x, u))

    def proju(self, x: Vector, v: Tangent) -> Tangent:
        """v + <x, v> x/k."""
        return math.project_u(x, v, self._k(x, v))

    def projx(self, x: Vector) -> Vector:
        """x with its time coordinate computed anew."""
        return math.project(x, self._k(x))

    def dist(self, x: Vector, y: Vector, *, keepdim: bool = False) -> Number:
        """Geodesic distance, with gradient 0 at x = y."""
        return _drop(math.dist(x, y, self._k(x, y)), keepdim)

    def dist2(self, x: Vector, y: Vector, *, keepdim: bool = False) -> Number:
        """Squared distance, smooth at x = y."""
        return _drop(math.dist2(x, y, self._k(x, y)), keepdim)

    def dist0(self, x: Vector, *, keepdim: bool = False) -> Number:
        """Distance to the origin."""
        return _drop(math.dist0(x, self._k(x)), keepdim)

    # Maps between points and tangents.

    def _projected(self, x: Vector, project: bool) -> Vector:
        return math.project(x, self._k(x)) if project else x

    def expmap(self, x: Vector, u: Tangent, *, norm_tan: bool = True, project: bool = True) -> Vector:
        """Exponential map; `norm_tan` first projects u onto the tangent space, `project` computes the time coordinate anew."""
        k = self._k(x, u)
        if norm_tan:
            u = math.project_u(x, u, k)
            return self._projected(math.expmap(x, u, k, math.tangent_norm2(x, u, k)), project)
        return self._projected(math.expmap(x, u, k), project)

    def retr(self, x: Vector, u: Tangent, *, norm_tan: bool = True, project: bool = True) -> Vector:
        """`expmap`."""
        return self.expmap(x, u, norm_tan=norm_tan, project=project)

    def expmap0(self, u: Tangent, *, project: bool = True) -> Vector:
        """Exponential map at the origin; u has d + 1 coordinates, the first 0."""
        return self._projected(math.expmap0(u, self._k(u)), project)

    def logmap(self, x: Vector, y: Vector) -> Tangent:
        """Logarithm."""
        return math.logmap(x, y, self._k(x, y))

    def logmap0(self, y: Vector) -> Tangent:
        """Logarithm at the origin of y."""
        return math.logmap0(y, self._k(y))

    def logmap0back(self, x: Vector) -> Tangent:
        """Logarithm at x of the origin."""
        return math.logmap0back(x, self._k(x))

    def geodesic_unit(self, t: Number, x: Vector, u: Tangent, *, project: bool = True) -> Vector:
        """The point at arc length t from x along the unit tangent u; t broadcasts against points, last axis included."""
        t = jnp.asarray(t, jnp.result_type(x, u))
        return self._projected(math.geodesic_unit(t, x, u, self._k(x, u)), project)

    # Transports.

    def transp(self, x: Vector, y: Vector, v: Tangent) -> Tangent:
        """Parallel transport of v, tangent at x, along the geodesic to y."""
        return math.parallel_transport(x, y, v, self._k(x, y, v))

    def transp0(self, y: Vector, u: Tangent) -> Tangent:
        """Parallel transport from the origin to y."""
        return math.parallel_transport0(y, u, self._k(y, u))

    def transp0back(self, x: Vector, u: Tangent) -> Tangent:
        """Parallel transport from x to the origin."""
        return math.parallel_transport0back(x, u, self._k(x, u))

    def transp_follow_expmap(self, x: Vector, u: Tangent, v: Tangent, *, project: bool = True) -> Tangent:
        """v transported along the geodesic of u."""
        return self.transp(x, self.expmap(x, u, project=project), v)

    # Points.

    def random_normal(self, key: PRNGKeyArray, *size: int, mean: Any = 0.0, std: Any = 1.0, dtype: Any = None) -> Vector:
        """expmap0 of normal vectors (last axis d + 1, deviation std, around `mean`) scaled to Euclidean length 1, as geoopt samples.

        With mean 0 the points have at most distance 1 from the origin whatever std is.
        """
        self._raise_unless(self._check_shape(jax.ShapeDtypeStruct(size, float), "size"))
        u = jax.random.normal(key, size, dtype or jnp.result_type(float))
        u = u * jnp.asarray(std, u.dtype) + jnp.asarray(mean, u.dtype)
        return self.expmap0(u / jnp.sqrt(math.dot(u, u)))

    def origin(self, *size: int, dtype: Any = None) -> Vector:
        """(sqrt(k), 0, ..., 0)."""
        zeros = jnp.zeros(size, dtype or jnp.result_type(float))
        return zeros.at[..., 0].set(jnp.sqrt(self._k(zeros)))

    def _check_shape(self, x: Any, name: str) -> Verdict:
        ok, reason = super()._check_shape(x, name)
        if ok and x.shape[-1] < 2:
            return (
                False,
                f"{name} has shape {tuple(x.shape)}; the last axis holds time and at least one space coordinate",
            )
        return ok, reason

    def _check_point_on_manifold(self, x: Vector, *, atol: float, rtol: float) -> Verdict:
        k, square = self._k(x), math.inner(x, x)
        if not bool(jnp.allclose(square, -k, atol=atol, rtol=rtol)):
            worst = float(square.ravel()[jnp.argmax(jnp.abs(square + k))])
            return (
                False,
                f"<x, x> is {worst:.8g} and should be -k = {-float(jnp.max(k)):.8g}; projx(x) puts x on the manifold",
            )
        if not bool(jnp.all(x[..., 0] > 0)):
            return (
                False,
                f"x0 is {float(jnp.min(x[..., 0])):.8g} and should be positive; the time coordinate comes first",
            )
        return True, None

    def _check_vector_on_tangent(self, x: Vector, u: Tangent, *, atol: float, rtol: float) -> Verdict:
        worst = float(jnp.max(jnp.abs(math.inner(x, u))))
        if worst <= atol:
            return True, None
        return False, f"<x, u> is {worst:.8g} and should be 0; proju(x, u) makes u tangent"


def _drop(x: Array, keepdim: bool) -> Array:
    return x if keepdim else jnp.squeeze(x, -1)
