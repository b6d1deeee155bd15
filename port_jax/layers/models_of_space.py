"""Which model of hyperbolic space a layer needs, asked of the manifold that it is given."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from port_jax.manifolds import Manifold

__all__ = ["require_ball", "require_time"]


def require_time(layer: nn.Module, manifold: Manifold, instead: str) -> None:
    """Raise ValueError if points of the manifold have no time coordinate; `instead` names the layers for a ball."""
    if manifold.ambient != 1:
        raise ValueError(
            f"{type(layer).__name__}: the manifold is {manifold.name}, whose points have no time coordinate; pass Lorentz(k), "
            f"or use {instead}"
        )


def require_ball(layer: nn.Module, manifold: Manifold) -> Any:
    """The manifold itself if it is a ball, else ValueError."""
    if not manifold.has("ball") or manifold.ball is not manifold:
        raise ValueError(
            f"{type(layer).__name__}: the manifold is {manifold.name}; pass PoincareBall(c), to which poincare_to_lorentz and "
            "lorentz_to_poincare lead from and to the hyperboloid of k = 1/c"
        )
    return manifold
