"""The stereographic model of constant curvature k: Poincaré ball, flat space, projected sphere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.manifolds.base import Manifold, Tangent, Verdict
from port_jax.manifolds.point_numbers import beside, require_point_numbers
from port_jax.manifolds.row_products import dot
from port_jax.manifolds.signed import Curvature
from port_jax.manifolds.sizes import require_size
from port_jax.manifolds.stereographic import geodesics, gyrogroup, hyperplanes, metric
from port_jax.manifolds.stereographic.midpoint import weighted_midpoint
from port_jax.manifolds.stereographic.projection import inv_sproj, sproj

__all__ = ["ExactRetraction", "StereographicModel"]

Vector = Float[Array, "*batch d"]
Number = Float[Array, "..."]


class StereographicModel(Manifold):
    """All operations of the model; its subclasses store the curvature and provide it as `k`.

    The metric is lambda_x² |u|² with lambda_x = 2/(1 + k|x|²), so expmap0(u) lies at distance 2|u| from the origin. An array-valued
    k broadcasts against points, with length 1 on its last axis; any other shape is a ValueError. With `project=False` a result is
    returned as the formula gives it; otherwise it is kept inside the ball by at least 4e-3 (float64: 1e-5) of the radius.
    """

    ndim: ClassVar[int] = 1
    unit: ClassVar[float] = 2.0
    spherical: ClassVar[bool] = True
    """Whether k can be positive."""
    _leaf: ClassVar[str] = "k"
    """The name of the field with the curvature."""

    k: Any

    def _number(self) -> Any:
        """The curvature for the formulas: NaN where its sign is not the manifold's."""
        return self.k

    def _k(self, *points: Array, dtype: DTypeLike | None = None) -> Curvature:
        require_point_numbers(self.name, self._leaf, getattr(self, self._leaf), *points)
        return Curvature(jnp.asarray(self._number(), jnp.result_type(*points, *([] if dtype is None else [dtype]))), self.spherical)

    def _projected(self, x: Vector, project: bool) -> Vector:
        return metric.project(x, self._k(x)) if project else x

    @property
    def curvature(self) -> Any:
        """k."""
        return self._number()

    @property
    def radius(self) -> Number:
        """1/sqrt|k|."""
        return 1 / jnp.sqrt(jnp.abs(jnp.asarray(self._number())))

    # The metric.

    def lambda_x(self, x: Vector, *, keepdim: bool = False) -> Number:
        """Conformal factor 2/(1 + k|x|²)."""
        return _drop(metric.lambda_x(x, self._k(x)), keepdim)

    def inner(self, x: Vector, u: Tangent, v: Tangent | None = None, *, keepdim: bool = False) -> Number:
        """lambda_x² <u, v>."""
        return _drop(metric.inner(x, u, u if v is None else v, self._k(x, u)), keepdim)

    def norm(self, x: Vector, u: Tangent, *, keepdim: bool = False) -> Number:
        """lambda_x |u|, with gradient 0 at u = 0."""
        return _drop(metric.norm(x, u, self._k(x, u)), keepdim)

    def egrad2rgrad(self, x: Vector, u: Tangent) -> Tangent:
        """u/lambda_x²."""
        return metric.egrad2rgrad(x, u, self._k(x, u))

    def proju(self, x: Vector, u: Tangent) -> Tangent:
        """u: every vector is tangent."""
        return jnp.broadcast_to(u, jnp.broadcast_shapes(x.shape, u.shape))

    def projx(self, x: Vector) -> Vector:
        """x, moved back along its ray to the largest radius that is allowed if it is beyond that."""
        return metric.project_any(x, self._k(x))

    def dist(self, x: Vector, y: Vector, *, keepdim: bool = False) -> Number:
        """Geodesic distance, with gradient 0 at x = y."""
        return _drop(metric.dist(x, y, self._k(x, y)), keepdim)

    def dist2(self, x: Vector, y: Vector, *, keepdim: bool = False) -> Number:
        """Squared distance, smooth at x = y."""
        return _drop(metric.dist2(x, y, self._k(x, y)), keepdim)

    def dist0(self, x: Vector, *, keepdim: bool = False) -> Number:
        """Distance to the origin; NaN for x outside of the ball, where geoopt takes the boundary's."""
        return _drop(metric.dist0(x, self._k(x)), keepdim)

    # Maps between points and tangents.

    def retr(self, x: Vector, u: Tangent) -> Vector:
        """x + u, projected."""
        return metric.project_any(x + u, self._k(x, u))

    def expmap(self, x: Vector, u: Tangent, *, project: bool = True) -> Vector:
        """Exponential map."""
        return self._projected(geodesics.expmap(x, u, self._k(x, u)), project)

    def expmap0(self, u: Tangent, *, project: bool = True) -> Vector:
        """Exponential map at the origin."""
        return self._projected(gyrogroup.expmap0(u, self._k(u)), project)

    def logmap(self, x: Vector, y: Vector) -> Tangent:
        """Logarithm."""
        return geodesics.logmap(x, y, self._k(x, y))

    def logmap0(self, x: Vector) -> Tangent:
        """Logarithm at the origin."""
        return gyrogroup.logmap0(x, self._k(x))

    def geodesic(self, t: Number, x: Vector, y: Vector) -> Vector:
        """The point at time t from x (0) to y (1), not projected; t broadcasts against points, last axis included."""
        return geodesics.geodesic(jnp.asarray(t), x, y, self._k(x, y))

    def geodesic_unit(self, t: Number, x: Vector, u: Tangent, *, project: bool = True) -> Vector:
        """The point at arc length t from x in the direction of u; t broadcasts against points, last axis included."""
        t = jnp.asarray(t, jnp.result_type(x, u))
        return self._projected(geodesics.geodesic_unit(t, x, u, self._k(x, u)), project)

    # Transports.

    def transp(self, x: Vector, y: Vector, v: Tangent) -> Tangent:
        """Parallel transport of v from x to y along the geodesic."""
        return geodesics.parallel_transport(x, y, v, self._k(x, y, v))

    def transp0(self, y: Vector, u: Tangent) -> Tangent:
        """Parallel transport from the origin to y."""
        return geodesics.parallel_transport0(y, u, self._k(y, u))

    def transp0back(self, y: Vector, u: Tangent) -> Tangent:
        """Parallel transport from y to the origin."""
        return geodesics.parallel_transport0back(y, u, self._k(y, u))

    def expmap_transp(self, x: Vector, u: Tangent, v: Tangent, *, project: bool = True) -> tuple[Vector, Tangent]:
        """The point exp_x(u), and v transported there."""
        y = self.expmap(x, u, project=project)
        return y, self.transp(x, y, v)

    def transp_follow_expmap(self, x: Vector, u: Tangent, v: Tangent, *, project: bool = True) -> Tangent:
        """v transported along the geodesic of u."""
        return self.expmap_transp(x, u, v, project=project)[1]

    # The gyrogroup.

    def mobius_add(self, x: Vector, y: Vector, *, project: bool = True) -> Vector:
        """Moebius addition."""
        return self._projected(gyrogroup.mobius_add(x, y, self._k(x, y)), project)

    def mobius_neg(self, x: Vector) -> Vector:
        """-x."""
        return -x

    def mobius_sub(self, x: Vector, y: Vector, *, project: bool = True) -> Vector:
        """Moebius addition of -y."""
        return self._projected(gyrogroup.mobius_sub(x, y, self._k(x, y)), project)

    def mobius_coadd(self, x: Vector, y: Vector, *, project: bool = True) -> Vector:
        """Moebius coaddition."""
        return self._projected(gyrogroup.mobius_coadd(x, y, self._k(x, y)), project)

    def mobius_cosub(self, x: Vector, y: Vector, *, project: bool = True) -> Vector:
        """Moebius coaddition of -y."""
        return self._projected(gyrogroup.mobius_cosub(x, y, self._k(x, y)), project)

    def mobius_scalar_mul(self, r: Number, x: Vector, *, project: bool = True) -> Vector:
        """r times x along its ray; r broadcasts against points, last axis included."""
        r = jnp.asarray(r, jnp.result_type(x))
        return self._projected(gyrogroup.mobius_scalar_mul(r, x, self._k(x)), project)

    def mobius_pointwise_mul(self, w: Number, x: Vector, *, project: bool = True) -> Vector:
        """Coordinates multiplied by w in the tangent space of the origin."""
        return self._projected(gyrogroup.mobius_pointwise_mul(w, x, self._k(x, dtype=jnp.result_type(w))), project)

    def mobius_matvec(self, m: Float[Array, "*batch e d"], x: Vector, *, project: bool = True) -> Float[Array, "*batch e"]:
        """The matrix m applied in the tangent space of the origin."""
        return self._projected(gyrogroup.mobius_matvec(m, x, self._k(x, dtype=jnp.result_type(m))), project)

    def mobius_fn_apply(self, fn: Callable[..., Vector], x: Vector, *args: Any, project: bool = True, **kwargs: Any) -> Vector:
        """fn applied in the tangent space of the origin."""
        return self._projected(gyrogroup.mobius_fn_apply(fn, x, *args, k=self._k(x), **kwargs), project)

    def mobius_fn_apply_chain(self, x: Vector, *fns: Callable[[Vector], Vector], project: bool = True) -> Vector:
        """Functions applied one after another in the tangent space of the origin; x itself without functions."""
        return self._projected(gyrogroup.mobius_fn_apply_chain(x, *fns, k=self._k(x)), project)

    def gyration(self, x: Vector, y: Vector, z: Vector) -> Vector:
        """gyr[x, y] z."""
        return gyrogroup.gyration(x, y, z, self._k(x, y, z))

    def antipode(self, x: Vector) -> Vector:
        """The opposite point; -x for k <= 0."""
        return gyrogroup.antipode(x, self._k(x))

    # Hyperplanes, means, the ambient sphere or hyperboloid.

    def dist2plane(self, x: Vector, p: Vector, a: Tangent, *, keepdim: bool = False, signed: bool = False, scaled: bool = False) -> Number:
        """Distance from x to the hyperplane through p with normal a; `scaled` multiplies by |a|."""
        return _drop(hyperplanes.dist2plane(x, p, a, self._k(x, p, a), signed=signed, scaled=scaled), keepdim)

    def dist2planes(self, x: Float[Array, "n d"], p: Float[Array, "m d"], a: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """Signed distances of x_i to the hyperplane through p_j with normal a_j, for all i and j."""
        return self.dist2plane(x[:, None], p[None], a[None], signed=True)

    def beside(self, shape: tuple[int, ...]) -> StereographicModel:
        """`Manifold.beside`."""
        own: Any = self
        number = getattr(self, self._leaf)
        return dataclasses.replace(own, **{self._leaf: beside(self.name, self._leaf, number, shape)}) if np.ndim(number) else self

    @property
    def ball(self) -> StereographicModel:
        """Itself."""
        return self

    def to_ball(self, x: Vector) -> Vector:
        """x."""
        return x

    def weighted_midpoint(
        self,
        xs: Vector,
        weights: Number | None = None,
        *,
        reducedim: Sequence[int] | None = None,
        keepdim: bool = False,
        lincomb: bool = False,
        posweight: bool = False,
        project: bool = True,
    ) -> Vector:
        """Gyro-midpoint over the axes `reducedim` (default: all but the last); see `midpoint.weighted_midpoint`."""
        middle = weighted_midpoint(
            xs,
            weights,
            self._k(xs),
            reducedim=reducedim,
            keepdim=keepdim,
            lincomb=lincomb,
            posweight=posweight,
        )
        return self._projected(middle, project)

    def sproj(self, x: Float[Array, "*batch d+1"]) -> Vector:
        """The projection from the sphere or hyperboloid, whose axis is the last coordinate."""
        return sproj(x, self._k(x))

    def inv_sproj(self, x: Vector) -> Float[Array, "*batch d+1"]:
        """The inverse of `sproj`, to the sphere or hyperboloid."""
        return inv_sproj(x, self._k(x))

    # Points.

    def narrowed(self, x: Vector, dtype: DTypeLike) -> Vector:
        """x rounded to a narrower type, inside the ball by the margin of that type: see `metric.narrowed`."""
        return metric.narrowed(x, self._k(x), dtype)

    def random_normal(
        self, key: PRNGKeyArray, *size: int, mean: ArrayLike = 0.0, std: ArrayLike = 1.0, dtype: DTypeLike | None = None
    ) -> Vector:
        """expmap0 of normal vectors with deviation std/sqrt(d) in each coordinate, around `mean` in the tangent space of the origin.

        ValueError for a size without a last axis of 1 or more, or to which mean, std or k cannot be broadcast.
        """
        require_size(self, "random_normal", size, mean=mean, std=std, k=self.k)
        u = jax.random.normal(key, size, dtype or jnp.result_type(float))
        u = u * jnp.asarray(std, u.dtype) / size[-1] ** 0.5 + jnp.asarray(mean, u.dtype)
        return self.expmap0(u)

    def random(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None, **kwargs: Any) -> Vector:
        """`random_normal`."""
        require_size(self, "random", size)
        return self.random_normal(key, *size, dtype=dtype, **kwargs)

    def wrapped_normal(self, key: PRNGKeyArray, *size: int, mean: Vector, std: ArrayLike = 1.0, dtype: DTypeLike | None = None) -> Vector:
        """expmap at `mean` of vectors with deviation std in the metric there. Mathieu et al. (2019), section 3.2.

        ValueError as in `random_normal`.
        """
        require_size(self, "wrapped_normal", size, mean=mean, std=std, k=self.k)
        v = jax.random.normal(key, size, dtype or mean.dtype) * jnp.asarray(std, dtype or mean.dtype)
        return self.expmap(mean, v / metric.lambda_x(mean, self._k(mean)))

    def origin(self, *size: int, dtype: DTypeLike | None = None) -> Vector:
        """Zeros; ValueError for a size without a last axis of 1 or more, or to which k cannot be broadcast."""
        require_size(self, "origin", size, k=self.k)
        return jnp.zeros(size, dtype or jnp.result_type(float))

    def _check_point_on_manifold(self, x: Vector, *, atol: float, rtol: float) -> Verdict:
        projected = self.projx(x)
        if bool(jnp.allclose(x, projected, atol=atol, rtol=rtol)):
            return True, None
        norm, limit = (float(jnp.max(jnp.sqrt(dot(p, p)))) for p in (x, projected))
        return (
            False,
            f"x has norm {norm:.8g}, beyond the limit {limit:.8g} inside the ball of radius {float(self.radius):.8g}",
        )


class ExactRetraction(StereographicModel):
    """The retraction is the exponential map, so that a step can be reversed."""

    reversible: ClassVar[bool] = True

    def retr(self, x: Vector, u: Tangent, *, project: bool = True) -> Vector:
        """`expmap`."""
        return self.expmap(x, u, project=project)

    def retr_transp(self, x: Vector, u: Tangent, v: Tangent, *, project: bool = True) -> tuple[Vector, Tangent]:
        """`expmap_transp`."""
        return self.expmap_transp(x, u, v, project=project)

    def transp_follow_retr(self, x: Vector, u: Tangent, v: Tangent, *, project: bool = True) -> Tangent:
        """`transp_follow_expmap`."""
        return self.transp_follow_expmap(x, u, v, project=project)


def _drop(x: Array, keepdim: bool) -> Array:
    return x if keepdim else jnp.squeeze(x, -1)
