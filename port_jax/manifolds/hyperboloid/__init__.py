"""The hyperboloid model of hyperbolic space."""

from port_jax.manifolds.hyperboloid.lorentz import Lorentz

__all__ = ["Lorentz"]
