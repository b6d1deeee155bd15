"""A curvature together with what is known of its sign, so that the two stay together on their way through the formulas."""

from __future__ import annotations

from dataclasses import field

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds.base import pytree

__all__ = ["Curvature", "Signed", "as_curvature", "number"]

Number = Float[Array, "..."]


@pytree
class Curvature:
    """A curvature k, or k times a nonnegative number. Its sign is arbitrary, but if `spherical` is False it is at most 0.

    If `spherical` is False, formulas leave out the branches for k > 0: the numbers are the same, and the program is half as long.
    """

    value: Number
    spherical: bool = field(default=True, metadata={"static": True})

    def __mul__(self, x: Number) -> Curvature:
        """k x for x >= 0, which has the sign of k."""
        return Curvature(self.value * x, self.spherical)


Signed = Curvature | Number
"""A curvature, or a plain number, which may have any sign."""


def as_curvature(k: Signed) -> Curvature:
    """k as a `Curvature`."""
    return k if isinstance(k, Curvature) else Curvature(jnp.asarray(k))


def number(k: Signed) -> Number:
    """The number without what is known of its sign."""
    return k.value if isinstance(k, Curvature) else k
