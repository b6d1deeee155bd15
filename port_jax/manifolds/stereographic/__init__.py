"""The stereographic model of constant curvature k: Poincaré ball, flat space, projected sphere."""

from port_jax.manifolds.stereographic.family import (
    PoincareBall,
    PoincareBallExact,
    SphereProjection,
    SphereProjectionExact,
    Stereographic,
    StereographicExact,
)
from port_jax.manifolds.stereographic.model import StereographicModel
from port_jax.manifolds.stereographic.product import StereographicProductManifold

__all__ = [
    "PoincareBall",
    "PoincareBallExact",
    "SphereProjection",
    "SphereProjectionExact",
    "Stereographic",
    "StereographicExact",
    "StereographicModel",
    "StereographicProductManifold",
]
