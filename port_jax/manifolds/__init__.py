"""Riemannian manifolds: frozen pytrees with geoopt's operations."""

from port_jax.manifolds.base import Manifold
from port_jax.manifolds.curvatures import (
    PoincareBall,
    PoincareBallExact,
    SphereProjection,
    SphereProjectionExact,
    Stereographic,
    StereographicExact,
)
from port_jax.manifolds.euclidean import Euclidean
from port_jax.manifolds.lorentz import Lorentz
from port_jax.manifolds.lorentz_math import lorentz_to_poincare, poincare_to_lorentz

__all__ = [
    "Euclidean",
    "Lorentz",
    "Manifold",
    "PoincareBall",
    "PoincareBallExact",
    "SphereProjection",
    "SphereProjectionExact",
    "Stereographic",
    "StereographicExact",
    "lorentz_to_poincare",
    "poincare_to_lorentz",
]
