"""Riemannian manifolds: frozen pytrees with geoopt's operations."""

from port_jax.manifolds.base import Manifold
from port_jax.manifolds.birkhoff_polytope import BirkhoffPolytope
from port_jax.manifolds.bounded_domain import BoundedDomain
from port_jax.manifolds.euclidean import Euclidean
from port_jax.manifolds.hyperboloid import Lorentz
from port_jax.manifolds.isometries import lorentz_to_poincare, poincare_to_lorentz
from port_jax.manifolds.product import ProductManifold
from port_jax.manifolds.scaled import Scaled
from port_jax.manifolds.siegel import SiegelMetricType
from port_jax.manifolds.sphere import Sphere, SphereExact
from port_jax.manifolds.stereographic import (
    PoincareBall,
    PoincareBallExact,
    SphereProjection,
    SphereProjectionExact,
    Stereographic,
    StereographicExact,
    StereographicProductManifold,
)
from port_jax.manifolds.stiefel import CanonicalStiefel, EuclideanStiefel, EuclideanStiefelExact, Stiefel
from port_jax.manifolds.symmetric_positive_definite import SPDMetric, SymmetricPositiveDefinite
from port_jax.manifolds.upper_half import UpperHalf

__all__ = [
    "BirkhoffPolytope",
    "BoundedDomain",
    "CanonicalStiefel",
    "Euclidean",
    "EuclideanStiefel",
    "EuclideanStiefelExact",
    "Lorentz",
    "Manifold",
    "PoincareBall",
    "PoincareBallExact",
    "ProductManifold",
    "SPDMetric",
    "Scaled",
    "SiegelMetricType",
    "Sphere",
    "SphereExact",
    "SphereProjection",
    "SphereProjectionExact",
    "Stereographic",
    "StereographicExact",
    "StereographicProductManifold",
    "Stiefel",
    "SymmetricPositiveDefinite",
    "UpperHalf",
    "lorentz_to_poincare",
    "poincare_to_lorentz",
]
