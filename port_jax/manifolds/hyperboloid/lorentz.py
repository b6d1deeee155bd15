"""The hyperboloid model of hyperbolic space.

The file is long because it has the ball's whole list of operations, each in a line or two on top of `metric`, `geodesics` and `gyrogroup`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.manifolds.base import Manifold, Move, Tangent, Verdict, pytree, require_positive
from port_jax.manifolds.hyperboloid import fused_step, geodesics, gyrogroup, metric
from port_jax.manifolds.isometries import lorentz_to_poincare
from port_jax.manifolds.pairs import arc, squares_to
from port_jax.manifolds.point_numbers import beside, positive_or_nan, require_one, require_point_numbers
from port_jax.manifolds.row_products import bounded, dot, shortening
from port_jax.manifolds.sizes import require_size
from port_jax.manifolds.stereographic import PoincareBall

__all__ = ["Lorentz"]

Vector = Float[Array, "*batch d+1"]
Space = Float[Array, "*batch d"]
Number = Float[Array, "..."]


@pytree
class Lorentz(Manifold):
    """The hyperboloid -x0² + |xs|² = -k with x0 > 0: k is a squared radius, the curvature is -1/k.

    Points have d + 1 coordinates, time first. An array-valued k broadcasts against points, with length 1 on its last axis; any other
    shape is a ValueError, as is a k that is not positive. A traced k, as under `jax.jit`, is not known when the manifold is made: results
    that depend on it are NaN where it is not positive. A trained curvature stays positive in the form k = softplus(raw), `from_raw`.
    """

    ndim: ClassVar[int] = 1
    ambient: ClassVar[int] = 1

    k: Any = 1.0

    def __post_init__(self) -> None:
        remedy = "k is a squared radius, so curvature -0.7 is k=1/0.7"
        require_positive(self.name, "k", self.k, remedy)

    def _k(self, *points: Array, dtype: DTypeLike | None = None) -> Array:
        require_point_numbers(self.name, "k", self.k, *points)
        return jnp.asarray(positive_or_nan(self.k), jnp.result_type(*points, *([] if dtype is None else [dtype])))

    @property
    def curvature(self) -> Any:
        """-1/k."""
        return -1 / positive_or_nan(self.k)

    @classmethod
    def from_raw(cls, raw: Any) -> Any:
        """The hyperboloid of k = softplus(raw), which no step of an optimizer makes negative. geoopt trains k itself."""
        return cls(jax.nn.softplus(raw))

    def beside(self, shape: tuple[int, ...]) -> Lorentz:
        """`Manifold.beside`."""
        return dataclasses.replace(self, k=beside(self.name, "k", self.k, shape)) if np.ndim(self.k) else self

    # The metric.

    def inner(self, x: Vector, u: Tangent, v: Tangent | None = None, *, keepdim: bool = False) -> Number:
        """Minkowski inner product -u0 v0 + <us, vs>; x is not used."""
        return _drop(metric.inner(u, u if v is None else v), keepdim)

    def inner0(self, v: Vector, *, keepdim: bool = False) -> Number:
        """Minkowski inner product of v with the origin, -sqrt(k) v0."""
        return _drop(metric.inner0(v, self._k(v)), keepdim)

    def norm(self, x: Vector, u: Tangent, *, keepdim: bool = False) -> Number:
        """sqrt(<u, u>) of u tangent at x, with gradient 0 at u = 0."""
        return _drop(metric.norm(x, u, self._k(x, u)), keepdim)

    def component_inner(self, x: Vector, u: Tangent, v: Tangent | None = None) -> Number:
        """`inner` with keepdim; <u, u> as a sum of squares, which rounding cannot make negative."""
        return metric.tangent_norm2(x, u, self._k(x, u)) if v is None else metric.inner(u, v)

    def egrad2rgrad(self, x: Vector, u: Tangent) -> Tangent:
        """Riemannian gradient: time coordinate negated, then projected."""
        return metric.egrad2rgrad(x, u, self._k(x, u))

    def proju(self, x: Vector, v: Tangent) -> Tangent:
        """v + <x, v> x/k."""
        return metric.project_u(x, v, self._k(x, v))

    def projx(self, x: Vector) -> Vector:
        """x with its time coordinate recomputed from its space part."""
        return metric.project(x, self._k(x))

    def dist(self, x: Vector, y: Vector, *, keepdim: bool = False) -> Number:
        """Geodesic distance, with gradient 0 at x = y."""
        return _drop(metric.dist(x, y, self._k(x, y)), keepdim)

    def dist2(self, x: Vector, y: Vector, *, keepdim: bool = False) -> Number:
        """Squared distance, smooth at x = y."""
        return _drop(metric.dist2(x, y, self._k(x, y)), keepdim)

    def dist0(self, x: Vector, *, keepdim: bool = False) -> Number:
        """Distance to the origin."""
        return _drop(metric.dist0(x, self._k(x)), keepdim)

    # Maps between points and tangents.

    def _projected(self, x: Vector, project: bool) -> Vector:
        return metric.project(x, self._k(x)) if project else x

    def expmap(self, x: Vector, u: Tangent, *, norm_tan: bool = True, project: bool = True) -> Vector:
        """Exponential map; `norm_tan` first projects u onto the tangent space, `project` recomputes the time coordinate.

        Where the point is too far for the dtype, it is the farthest representable one in that direction.
        """
        k, u = self._k(x, u), bounded(u)[0]
        u = metric.project_u(x, u, k) if norm_tan else u
        norm2 = metric.tangent_norm2(x, u, k) if norm_tan else metric.inner(u, u)
        u, norm2 = geodesics.within_reach(x, u, norm2, k)
        return self._projected(geodesics.expmap(x, u, k, norm2), project)

    def retr(self, x: Vector, u: Tangent, *, norm_tan: bool = True, project: bool = True) -> Vector:
        """`expmap`."""
        return self.expmap(x, u, norm_tan=norm_tan, project=project)

    def expmap0(self, u: Tangent, *, project: bool = True) -> Vector:
        """Exponential map at the origin; u has d + 1 coordinates, the first 0."""
        return self._projected(geodesics.expmap0(u, self._k(u)), project)

    def logmap(self, x: Vector, y: Vector) -> Tangent:
        """Logarithm."""
        return geodesics.logmap(x, y, self._k(x, y))

    def logmap0(self, y: Vector) -> Tangent:
        """Logarithm at the origin of y."""
        return geodesics.logmap0(y, self._k(y))

    def logmap0back(self, x: Vector) -> Tangent:
        """Logarithm at x of the origin."""
        return geodesics.logmap0back(x, self._k(x))

    def geodesic(self, t: Number, x: Vector, y: Vector) -> Vector:
        """The point at time t from x (0) to y (1); t broadcasts against points, last axis included."""
        return self.expmap(x, jnp.asarray(t, jnp.result_type(x, y)) * self.logmap(x, y))

    def geodesic_unit(self, t: Number, x: Vector, u: Tangent, *, project: bool = True) -> Vector:
        """The point at arc length t from x along the unit tangent u; t broadcasts against points, last axis included."""
        t = jnp.asarray(t, jnp.result_type(x, u))
        return self._projected(geodesics.geodesic_unit(t, x, u, self._k(x, u)), project)

    # Transports.

    def transp(self, x: Vector, y: Vector, v: Tangent) -> Tangent:
        """Parallel transport of v, tangent at x, along the geodesic to y."""
        return geodesics.parallel_transport(x, y, v, self._k(x, y, v))

    def transp0(self, y: Vector, u: Tangent) -> Tangent:
        """Parallel transport from the origin to y."""
        return geodesics.parallel_transport0(y, u, self._k(y, u))

    def transp0back(self, x: Vector, u: Tangent) -> Tangent:
        """Parallel transport from x to the origin."""
        return geodesics.parallel_transport0back(x, u, self._k(x, u))

    def transp_follow_expmap(self, x: Vector, u: Tangent, v: Tangent, *, project: bool = True) -> Tangent:
        """v transported along the geodesic of u."""
        return self.transp(x, self.expmap(x, u, project=project), v)

    def retr_transp_ambient(self, x: Vector, u: Tangent, v: Vector) -> tuple[Vector, Vector]:
        """`retr_transp` of the tangent part of v; the rest stays as it is, as geoopt's formula leaves it."""
        tangent = self.proju(x, v)
        moved, transported = self.retr_transp(x, u, tangent)
        # The normal part is -<x, v> x/k; a rounding error of <x, v> must not grow from step to step.
        rounding = 16 * jnp.finfo(v.dtype).eps * jnp.sum(jnp.abs(x * v), -1, keepdims=True)
        normal = jnp.abs(self.inner(x, x, v, keepdim=True)) > rounding
        return moved, transported + jnp.where(normal, v - tangent, 0)

    def descend_along(self, x: Vector, grad: Vector, m: Tangent, b1: Array | float) -> tuple[Array, Move]:
        """`Manifold.descend_along` in three sweeps that read and reduce, and three that overwrite."""
        if type(self) is not Lorentz:  # a subclass may have another retraction
            return super().descend_along(x, grad, m, b1)
        return fused_step.descend_along(x, grad, m, b1, self._k(x))

    # Around the origin.

    def coordinates0(self, u: Tangent) -> Space:
        """The space part: the time part of a tangent vector at the origin is 0."""
        return u[..., 1:]

    def from_coordinates0(self, v: Space) -> Tangent:
        """v with a time part 0 in front."""
        return jnp.pad(v, [(0, 0)] * (v.ndim - 1) + [(1, 0)])

    def from_tangent0(self, v: Space, *, longest: float | None = None) -> Vector:
        """exp_0 of the vector with coordinates v, at a distance of at most `longest` sqrt(k) where that is given."""
        return self.expmap0(self.from_coordinates0(v if longest is None else v * self.reach(v, longest)))

    def reach(self, v: Space, longest: float | None = None) -> Float[Array, "*batch 1"]:
        """The r <= 1 with log_0(exp_0(v)) = r v: up to `longest` sqrt(k), by default the largest distance that the dtype represents."""
        return shortening(v, (longest or geodesics.farthest(v.dtype)) ** 2 * self._k(v))

    @property
    def ball(self) -> PoincareBall:
        """The unit ball."""
        return PoincareBall(1.0)

    def to_ball(self, x: Vector) -> Space:
        """x in the unit ball: geoopt's `lorentz_to_poincare`, which shrinks distances by sqrt(k)."""
        return lorentz_to_poincare(x, self._k(x))

    # The gyrogroup.

    def mobius_add(self, x: Vector, y: Vector) -> Vector:
        """x (+) y: y moved by the translation that takes the origin to x."""
        return gyrogroup.mobius_add(x, y, self._k(x, y))

    def mobius_neg(self, x: Vector) -> Vector:
        """The point opposite to x as seen from the origin."""
        return gyrogroup.mobius_neg(x)

    def mobius_sub(self, x: Vector, y: Vector) -> Vector:
        """Moebius addition of the opposite of y."""
        return self.mobius_add(x, self.mobius_neg(y))

    def mobius_coadd(self, x: Vector, y: Vector) -> Vector:
        """Moebius coaddition."""
        return gyrogroup.mobius_coadd(x, y, self._k(x, y))

    def mobius_cosub(self, x: Vector, y: Vector) -> Vector:
        """Moebius coaddition of the opposite of y."""
        return self.mobius_coadd(x, self.mobius_neg(y))

    def mobius_scalar_mul(self, r: Number, x: Vector) -> Vector:
        """r times the distance from the origin along the ray of x; r broadcasts against points, last axis included."""
        return gyrogroup.mobius_scalar_mul(jnp.asarray(r, x.dtype), x, self._k(x))

    def mobius_pointwise_mul(self, w: Number, x: Vector) -> Vector:
        """Coordinates multiplied by w, of d entries, in the tangent space of the origin."""
        return gyrogroup.mobius_pointwise_mul(w, x, self._k(x, dtype=jnp.result_type(w)))

    def mobius_matvec(self, m: Float[Array, "*batch e d"], x: Vector) -> Float[Array, "*batch e+1"]:
        """The matrix m applied in the tangent space of the origin."""
        return gyrogroup.mobius_matvec(m, x, self._k(x, dtype=jnp.result_type(m)))

    def mobius_fn_apply(self, fn: Callable[..., Space], x: Vector, *args: Any, **kwargs: Any) -> Vector:
        """fn applied to the d coordinates in the tangent space of the origin."""
        return self.from_tangent0(fn(self.to_tangent0(x), *args, **kwargs))

    def mobius_fn_apply_chain(self, x: Vector, *fns: Callable[[Space], Space]) -> Vector:
        """Functions applied one after another in the tangent space of the origin; x itself without functions."""
        if not fns:
            return x
        v = self.to_tangent0(x)
        for fn in fns:
            v = fn(v)
        return self.from_tangent0(v)

    def gyration(self, x: Vector, y: Vector, z: Vector) -> Vector:
        """gyr[x, y] z."""
        return gyrogroup.gyration(x, y, z, self._k(x, y, z))

    def antipode(self, x: Vector) -> Vector:
        """The point opposite to x seen from the origin."""
        return gyrogroup.mobius_neg(x)

    # Hyperplanes, means, pairs.

    def dist2plane(self, x: Vector, p: Vector, a: Tangent, *, keepdim: bool = False, signed: bool = False, scaled: bool = False) -> Number:
        """Distance from x to the hyperplane through p with normal a, tangent at p; `scaled` multiplies by |a|."""
        return _drop(gyrogroup.dist2plane(x, p, a, self._k(x, p, a), signed=signed, scaled=scaled), keepdim)

    def dist2planes(self, x: Float[Array, "n d+1"], p: Float[Array, "m d+1"], a: Float[Array, "m d+1"]) -> Float[Array, "n m"]:
        """Signed distances of x_i to the hyperplane through p_j with normal a_j, for all i and j."""
        return self.dist2plane(x[:, None], p[None], a[None], signed=True)

    def weighted_midpoint(
        self,
        xs: Vector,
        weights: Number | None = None,
        *,
        reducedim: Sequence[int] | None = None,
        keepdim: bool = False,
        lincomb: bool = False,
        posweight: bool = False,
    ) -> Vector:
        """The centroid of Law et al. (2019) over the axes `reducedim` (default: all but the last); see `gyrogroup.weighted_midpoint`."""
        options: Any = {"reducedim": reducedim, "keepdim": keepdim, "lincomb": lincomb, "posweight": posweight}
        return gyrogroup.weighted_midpoint(xs, weights, self._k(xs), **options)

    def dist_to(self, y: Float[Array, "m d+1"]) -> Callable[[Float[Array, " d+1"]], Float[Array, " m"]]:
        """The distances 2 sqrt(k) arsinh(sqrt(w²/(4k))) of one point to all of y, with Minkowski's w² summed pair by pair."""
        k, two, squares = require_one(self.name, "dist_to", "k", self._k(y)), jnp.full((), 2, y.dtype), squares_to(y, -1)
        return lambda x: arc(jnp.maximum(squares(x), 0), two, two, -1 / k)

    # Points.

    def random(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None, **kwargs: Any) -> Vector:
        """`random_normal`."""
        require_size(self, "random", size)
        return self.random_normal(key, *size, dtype=dtype, **kwargs)

    def wrapped_normal(self, key: PRNGKeyArray, *size: int, mean: Vector, std: ArrayLike = 1.0, dtype: DTypeLike | None = None) -> Vector:
        """expmap at `mean` of vectors with deviation std in an orthonormal frame there. Nagano et al. (2019), section 3.

        std is a number, or has d entries on its last axis. ValueError for a last axis shorter than 2, or a size to which mean or k cannot
        be broadcast.
        """
        require_size(self, "wrapped_normal", size, mean=mean, k=self.k)
        dtype = dtype or mean.dtype
        shape = (*size[:-1], size[-1] - 1)
        v = jax.random.normal(key, shape, dtype) * jnp.broadcast_to(jnp.asarray(std, dtype), shape)
        return self.expmap(mean, self.transp0(mean, self.from_coordinates0(v)))

    def random_normal(
        self, key: PRNGKeyArray, *size: int, mean: ArrayLike = 0.0, std: ArrayLike = 1.0, dtype: DTypeLike | None = None
    ) -> Vector:
        """expmap0 of normal vectors (last axis d + 1, deviation std, around `mean`) scaled to Euclidean length 1, as geoopt samples.

        With mean 0 the points have at most distance 1 from the origin whatever std is. ValueError for a last axis shorter than 2, or a
        size to which mean, std or k cannot be broadcast.
        """
        require_size(self, "random_normal", size, mean=mean, std=std, k=self.k)
        u = jax.random.normal(key, size, dtype or jnp.result_type(float))
        u = u * jnp.asarray(std, u.dtype) + jnp.asarray(mean, u.dtype)
        return self.expmap0(u / jnp.sqrt(dot(u, u)))

    def origin(self, *size: int, dtype: DTypeLike | None = None) -> Vector:
        """(sqrt(k), 0, ..., 0); ValueError for a last axis shorter than 2, or a size to which k cannot be broadcast."""
        require_size(self, "origin", size, k=self.k)
        zeros = jnp.zeros(size, dtype or jnp.result_type(float))
        return zeros.at[..., :1].set(jnp.sqrt(self._k(zeros)))

    def _check_shape(self, x: Any, name: str) -> Verdict:
        ok, reason = super()._check_shape(x, name)
        if ok and x.shape[-1] < 2:
            return (
                False,
                f"{name} has shape {tuple(x.shape)}; the last axis needs the time and at least one space coordinate",
            )
        return ok, reason

    def _check_point_on_manifold(self, x: Vector, *, atol: float, rtol: float) -> Verdict:
        """|<x, x> + k| <= atol + rtol k, or x0 within its own rounding: far from the origin <x, x> is only that of its terms."""
        x = jnp.asarray(x, jnp.result_type(x, 1.0))
        k = self._k(x)
        if not bool(jnp.all(x[..., 0] > 0)):
            return False, f"x0 is {float(jnp.min(x[..., 0])):.8g} and should be positive; the time coordinate comes first"
        found, right = x[..., :1], metric.time_of(x[..., 1:], k)
        off = jnp.abs(found - right) - (atol + rtol * k) / (found + right) - x.shape[-1] * jnp.finfo(x.dtype).eps * right
        if bool(jnp.all(off <= 0)):
            return True, None
        at = jnp.argmax(off / right)
        return False, (
            f"x0 is {float(found.ravel()[at]):.8g} and should be {float(right.ravel()[at]):.8g}, the root of k + |xs|² for the space part "
            f"xs = x[1:], with k = {float(jnp.broadcast_to(k, off.shape).ravel()[at]):.8g}; projx(x) puts x on the manifold"
        )

    def _check_vector_on_tangent(self, x: Vector, u: Tangent, *, atol: float, rtol: float) -> Verdict:
        """|<x, u>| <= atol, or within the rounding of its terms."""
        x, u = (jnp.asarray(a, jnp.result_type(a, 1.0)) for a in (x, u))
        e = metric.shrinking(x, self._k(x))
        terms = dot(jnp.abs(x * e), jnp.abs(u))
        product = metric.inner(x * e, u)
        off = jnp.abs(product) - atol * e - x.shape[-1] * jnp.finfo(product.dtype).eps * terms
        if bool(jnp.all(off <= 0)):
            return True, None
        worst = float((jnp.abs(product) / e).ravel()[jnp.argmax(off / e)])
        return False, f"<x, u> is {worst:.8g} and should be 0; proju(x, u) makes u tangent"


def _drop(x: Array, keepdim: bool) -> Array:
    return x if keepdim else jnp.squeeze(x, -1)
