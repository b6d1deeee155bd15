"""The stereographic manifolds by how their curvature is stored: any sign, negative, positive; each also with the exact retraction."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import numpy as np

from port_jax.manifolds import trig
from port_jax.manifolds.base import concrete, pytree, require_positive
from port_jax.manifolds.stereographic import ExactRetraction, StereographicModel


@pytree
class Stereographic(StereographicModel):
    """Curvature k of any sign, 0 included; differentiable in k also where it crosses 0."""

    k: Any = 0.0

    def __post_init__(self) -> None:
        number = concrete(self.k)
        if number is not None and not np.isfinite(number).all():
            raise ValueError(f"{self.name}(k={number}): the curvature must be finite")


@pytree
class StereographicExact(Stereographic, ExactRetraction):
    """`Stereographic` with the exponential map as retraction."""


@pytree
class PoincareBall(StereographicModel):
    """The ball of radius 1/sqrt(c), of curvature k = -c < 0. geoopt stores isp_c, with c = softplus(isp_c)."""

    spherical: ClassVar[bool] = False

    c: Any = 1.0

    def __post_init__(self) -> None:
        remedy = "c is minus the curvature, so curvature -0.7 is c=0.7 (for curvature of any sign: Stereographic(k))"
        require_positive(self.name, "c", self.c, remedy)

    @property
    def k(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Sectional curvature -c."""
        return -self.c

    @property
    def isp_c(self) -> Any:
        """The raw parameter log(exp(c) - 1) that gives c."""
        return trig.softplus_inverse(self.c)

    @classmethod
    def from_raw(cls, isp_c: Any) -> Any:
        """The ball of c = softplus(isp_c), as a learnable curvature is stored."""
        return cls(jax.nn.softplus(isp_c))


@pytree
class PoincareBallExact(PoincareBall, ExactRetraction):
    """`PoincareBall` with the exponential map as retraction."""


@pytree
class SphereProjection(StereographicModel):
    """The stereographic projection of the sphere of curvature k > 0. geoopt stores isp_k, with k = softplus(isp_k)."""

    k: Any = 1.0

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


@pytree
class SphereProjectionExact(SphereProjection, ExactRetraction):
    """`SphereProjection` with the exponential map as retraction."""
