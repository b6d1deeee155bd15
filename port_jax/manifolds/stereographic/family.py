"""The stereographic manifolds, of curvature of any sign, negative, or positive; each also with the exact retraction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.base import Move, concrete, pytree, require_positive
from port_jax.manifolds.pairs import arc, squares_to
from port_jax.manifolds.point_numbers import positive_or_nan, require_one
from port_jax.manifolds.row_products import shortening
from port_jax.manifolds.stereographic import fused_step, hyperplanes
from port_jax.manifolds.stereographic.metric import boundary_margin, conformal
from port_jax.manifolds.stereographic.model import ExactRetraction, StereographicModel

__all__ = ["PoincareBall", "PoincareBallExact", "SphereProjection", "SphereProjectionExact", "Stereographic", "StereographicExact"]

Vector = Float[Array, "*batch d"]


@pytree
class Stereographic(StereographicModel):
    """Curvature k of any sign, 0 included; differentiable in k also where it crosses 0."""

    k: Any = 0.0

    def __post_init__(self) -> None:
        number = concrete(self.k)
        if number is not None and not np.isfinite(number).all():
            raise ValueError(f"{self.name}(k={number}): the curvature must be finite")

    def with_exact_retraction(self) -> StereographicExact:
        """`StereographicExact` of the same curvature."""
        return StereographicExact(self.k)


@pytree
class StereographicExact(Stereographic, ExactRetraction):
    """`Stereographic` with the exponential map as retraction."""


@pytree
class PoincareBall(StereographicModel):
    """The ball of radius 1/sqrt(c), of curvature k = -c < 0. geoopt stores isp_c, with c = softplus(isp_c).

    A c that is not positive is a ValueError. One that is traced, as under `jax.jit`, is not known when the ball is made: results are NaN
    where it is below 0. Train isp_c (`from_raw`), for which c cannot get there.
    """

    spherical: ClassVar[bool] = False
    _leaf: ClassVar[str] = "c"

    c: Any = 1.0

    def __post_init__(self) -> None:
        remedy = "c is minus the curvature, so curvature -0.7 is c=0.7 (for curvature of any sign: Stereographic(k))"
        require_positive(self.name, "c", self.c, remedy)

    @property
    def k(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Sectional curvature -c, NaN where c is below 0."""
        return -positive_or_nan(self.c, zero=True)

    @property
    def isp_c(self) -> Any:
        """The raw parameter log(exp(c) - 1) that gives c."""
        return trig.softplus_inverse(self.c)

    @classmethod
    def from_raw(cls, isp_c: Any) -> Any:
        """The ball of c = softplus(isp_c), as a learnable curvature is stored."""
        return cls(jax.nn.softplus(isp_c))

    def with_exact_retraction(self) -> PoincareBallExact:
        """`PoincareBallExact` of the same curvature."""
        return PoincareBallExact(self.c)

    def reach(self, v: Vector, longest: float | None = None) -> Float[Array, "*batch 1"]:
        """The r <= 1 with log_0(exp_0(v)) = r v: points are kept off the boundary. `longest` is ignored."""
        return shortening(v, float(np.arctanh(1 - boundary_margin(v.dtype))) ** 2 / -self._k(v).value)

    def dist_to(self, y: Float[Array, "m d"]) -> Callable[[Float[Array, " d"]], Float[Array, " m"]]:
        """The distances 2 arsinh(sqrt(c w²/((1 - c|x|²)(1 - c|y|²))))/sqrt(c) of one point to all of y, w² summed pair by pair."""
        k, squares = jnp.asarray(require_one(self.name, "dist_to", "c", self.k), y.dtype), squares_to(y, 1)
        b = conformal(y, k)[:, 0]
        return lambda x: arc(squares(x), conformal(x, k)[0], b, k)

    def dist2planes(self, x: Float[Array, "n d"], p: Float[Array, "m d"], a: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """Signed distances of x_i to the hyperplane through p_j with normal a_j, for all i and j, without an array [n, m, d]."""
        require_one(self.name, "dist2planes", "c", self.c)
        return hyperplanes.dist2planes(x, p, a, self._k(x, p, a))

    def descend(self, x: Vector, grad: Vector, rate: Array | float) -> Vector:
        """retr(x, -rate egrad2rgrad(x, grad)) in two sweeps, one that reads and reduces and one that writes."""
        if type(self) is not PoincareBall:  # a subclass may have another retraction
            return super().descend(x, grad, rate)
        return fused_step.descend(x, grad, rate, self._k(x).value)

    def descend_along(self, x: Vector, grad: Vector, m: Vector, b1: Array | float) -> tuple[Array, Move]:
        """`Manifold.descend_along` in two sweeps that read and reduce, and three that overwrite."""
        if type(self) is not PoincareBall:  # a subclass may have another retraction
            return super().descend_along(x, grad, m, b1)
        return fused_step.descend_along(x, grad, m, b1, self._k(x).value)


@pytree
class PoincareBallExact(PoincareBall, ExactRetraction):
    """`PoincareBall` with the exponential map as retraction."""


@pytree
class SphereProjection(StereographicModel):
    """The stereographic projection of the sphere of curvature k > 0. geoopt stores isp_k, with k = softplus(isp_k).

    As on `PoincareBall`, a k that is not positive is a ValueError, and results are NaN where a traced one is below 0.
    """

    k: Any = 1.0

    def _number(self) -> Any:
        return positive_or_nan(self.k, zero=True)

    def __post_init__(self) -> None:
        remedy = "a ball of curvature -0.7 is PoincareBall(c=0.7), a curvature of any sign Stereographic(k)"
        require_positive(self.name, "k", self.k, remedy)

    @property
    def isp_k(self) -> Any:
        """The raw parameter log(exp(k) - 1) that gives k."""
        return trig.softplus_inverse(self.k)

    @classmethod
    def from_raw(cls, isp_k: Any) -> Any:
        """The projected sphere of k = softplus(isp_k), as a learnable curvature is stored."""
        return cls(jax.nn.softplus(isp_k))

    def with_exact_retraction(self) -> SphereProjectionExact:
        """`SphereProjectionExact` of the same curvature."""
        return SphereProjectionExact(self.k)


@pytree
class SphereProjectionExact(SphereProjection, ExactRetraction):
    """`SphereProjection` with the exponential map as retraction."""
