"""Activations, dropout and layer norm of points, in one of two sets of coordinates.

`Tangent...`: y = exp_0(f(log_0 x)), on any manifold with an origin (Ganea et al. 2018, section 3.2; HypLL). `Space...`: y_s = f(x_s) and
y_t = sqrt(k + |y_s|²), on a hyperboloid (Chen et al. 2022, Bdeir et al. 2024, Hypformer). The two differ: on the hyperboloid
log_0 x = √k arsinh(|x_s|/√k) x_s/|x_s|, so that tanh or dropout see shorter vectors in the tangent space.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from port_jax.checks import as_numbers
from port_jax.layers.models_of_space import require_time
from port_jax.manifolds import Manifold

__all__ = [
    "SpaceActivation",
    "SpaceDropout",
    "SpaceLayerNorm",
    "SpaceRMSNorm",
    "TangentActivation",
    "TangentDropout",
    "TangentLayerNorm",
]

Points = Float[Array, "*batch ambient"]
Coordinates = Float[Array, "*batch d"]


def _in_tangent(manifold: Manifold, x: Points, fn: Callable[[Coordinates], Coordinates]) -> Points:
    return manifold.from_tangent0(fn(manifold.to_tangent0(as_numbers("x", x))))


def _in_space(layer: nn.Module, manifold: Manifold, x: Points, fn: Callable[[Coordinates], Coordinates]) -> Points:
    require_time(layer, manifold, type(layer).__name__.replace("Space", "Tangent"))
    return manifold.projx(manifold.from_coordinates0(fn(as_numbers("x", x)[..., 1:])))


class TangentActivation(nn.Module):
    """y = exp_0(act(log_0 x))."""

    act: Callable[[Coordinates], Coordinates] = jax.nn.relu

    def __call__(self, manifold: Manifold, x: Points) -> Points:
        return _in_tangent(manifold, x, self.act)


class SpaceActivation(nn.Module):
    """y_s = act(x_s), y_t = sqrt(k + |y_s|²)."""

    act: Callable[[Coordinates], Coordinates] = jax.nn.relu

    def __call__(self, manifold: Manifold, x: Points) -> Points:
        return _in_space(self, manifold, x, self.act)


class _Dropout(nn.Module):
    """`mask` replaces the one that is drawn from the stream "dropout"; it includes the factor 1/(1 - rate)."""

    rate: float

    def _drop(self, u: Coordinates, deterministic: bool, mask: Coordinates | None) -> Coordinates:
        return nn.Dropout(self.rate)(u, deterministic=deterministic) if mask is None else u * mask


class TangentDropout(_Dropout):
    """y = exp_0(dropout(log_0 x)). `mask` replaces the one that is drawn from the stream "dropout"; it includes the factor 1/(1 - rate)."""

    @nn.compact
    def __call__(self, manifold: Manifold, x: Points, deterministic: bool = True, mask: Coordinates | None = None) -> Points:
        return _in_tangent(manifold, x, lambda u: self._drop(u, deterministic, mask))


class SpaceDropout(_Dropout):
    """y_s = dropout(x_s), y_t = sqrt(k + |y_s|²). `mask` as in `TangentDropout`."""

    @nn.compact
    def __call__(self, manifold: Manifold, x: Points, deterministic: bool = True, mask: Coordinates | None = None) -> Points:
        return _in_space(self, manifold, x, lambda u: self._drop(u, deterministic, mask))


class TangentLayerNorm(nn.Module):
    """y = exp_0(LayerNorm(log_0 x)). Parameters `norm/{scale, bias}` [d]."""

    eps: float = 1e-5

    @nn.compact
    def __call__(self, manifold: Manifold, x: Points) -> Points:
        return _in_tangent(manifold, x, nn.LayerNorm(self.eps, use_fast_variance=False, name="norm"))


class SpaceLayerNorm(nn.Module):
    """y_s = LayerNorm(x_s), y_t = sqrt(k + |y_s|²) (Hypformer, Yang et al. 2024). Parameters `norm/{scale, bias}` [d]."""

    eps: float = 1e-5

    @nn.compact
    def __call__(self, manifold: Manifold, x: Points) -> Points:
        return _in_space(self, manifold, x, nn.LayerNorm(self.eps, use_fast_variance=False, name="norm"))


class SpaceRMSNorm(nn.Module):
    """y_s = scale x_s/sqrt(mean(x_s²) + eps), y_t = sqrt(k + |y_s|²) (HELM, He et al. 2025). Parameter `norm/scale` [d]."""

    eps: float = 1e-8

    @nn.compact
    def __call__(self, manifold: Manifold, x: Points) -> Points:
        return _in_space(self, manifold, x, nn.RMSNorm(self.eps, name="norm"))
