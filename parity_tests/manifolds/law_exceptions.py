"""Which laws a manifold is not subject to, as in geoopt, and why."""

from __future__ import annotations

_PROJECTION = "transport is the projection onto the tangent space at the end, as in geoopt; vector_transport holds"
_NO_LOG = "has no logarithm and no distance, as in geoopt"
_SIEGEL = {
    "inverse": "has no exponential and no logarithm, as in geoopt",
    "length": "has no exponential and no logarithm; test_curvature.py measures integrated geodesics",
    "geodesic": "has no exponential, as in geoopt",
    "transport": "transport is the identity, as in geoopt; vector_transport holds",
}
_STIEFEL = {"inverse": _NO_LOG, "length": _NO_LOG, "distance": _NO_LOG}
_SCALED = "the base's, as in geoopt: scale times the gradient in scaled lengths"
EXCEPTIONS: dict[str, dict[str, str]] = {
    "Sphere": {"transport": _PROJECTION},
    "Sphere, intersection": {"transport": _PROJECTION},
    "Scaled Sphere": {"transport": _PROJECTION, "gradient: along v": _SCALED},
    "Scaled PoincareBall": {"gradient: along v": _SCALED},
    "CanonicalStiefel": _STIEFEL | {"retraction: velocity": "geoopt's Cayley transform starts along u + x xᵀu"},
    "EuclideanStiefel": _STIEFEL | {"transport": _PROJECTION},
    "BirkhoffPolytope": {
        "inverse": _NO_LOG,
        "length": _NO_LOG,
        "distance": _NO_LOG,
        "geodesic": "expmap is the retraction, as in geoopt; the metric's exponential has no closed form",
        "transport": _PROJECTION,
        "gradient: along v": "as in geoopt without the factor n that the mean in inner asks for",
    },
    "UpperHalf riem": _SIEGEL,
    "BoundedDomain riem": _SIEGEL,
    "SymmetricPositiveDefinite SM": {"distance: triangle": "a divergence, whose square root is the metric"},
}
"""Laws, or equations of one ("law: equation"), that a manifold is not subject to, and why. Each is seen to fail or to be refused."""
