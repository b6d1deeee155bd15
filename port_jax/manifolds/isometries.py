"""Maps between the models of hyperbolic space of curvature -c: Poincaré ball, hyperboloid, Klein ball, upper half-space.

All are isometries for every c > 0, with the metrics

    ball         4 |dx|²/(1 - c|x|²)²                                     |x| < 1/√c               d coordinates
    hyperboloid  |dx|² - dx₀²                                             x₀² - |x|² = 1/c         d + 1, time first
    klein        |dx|²/(1 - c|x|²) + c ⟨x, dx⟩²/(1 - c|x|²)²              |x| < 1/√c               d
    half_space   (|dz|² + dt²)/(c t²)                                     t > 0, the last one      d

`PoincareBall(c)` is the ball, `Lorentz(1/c)` the hyperboloid. All maps take origins to origins: (1/√c, 0), 0 and (0, …, 0, 1).
Cannon, Floyd, Kenyon and Parry, "Hyperbolic geometry" (1997), section 7.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.manifolds.arguments import narrowed, numbers
from port_jax.manifolds.row_products import dot
from port_jax.manifolds.stereographic import metric
from port_jax.manifolds.stereographic.metric import conformal

__all__ = [
    "MODELS",
    "ball_to_hyperboloid",
    "ball_to_klein",
    "convert",
    "half_space_metric",
    "half_space_to_hyperboloid",
    "hyperboloid_to_ball",
    "hyperboloid_to_half_space",
    "hyperboloid_to_klein",
    "klein_metric",
    "klein_to_ball",
    "klein_to_hyperboloid",
    "lorentz_to_poincare",
    "poincare_to_lorentz",
]

Number = Float[Array, "..."]
Ball = Float[Array, "*batch d"]
Klein = Float[Array, "*batch d"]
HalfSpace = Float[Array, "*batch d"]
Hyperboloid = Float[Array, "*batch d+1"]
Curvature = Float[Array, ""] | float

MODELS = ("ball", "hyperboloid", "klein", "half_space")


Map = Callable[..., Any]


def _taking_numbers(into: Callable[[Any], Any] | None = None) -> Callable[[Map], Map]:
    """The rule of `port_jax.manifolds.arguments.take_numbers` for a map; `into`: from its curvature to the k of a ball as its target."""

    def decorate(function: Map) -> Map:
        @functools.wraps(function)
        def mapped(x: Any, *curvature: Any, **named: Any) -> Any:
            found = numbers(function.__name__, {"x": x})
            result = function(found.values["x"], *curvature, **named)
            if found.half is None:
                return result
            k = None if into is None else into(next(iter((*curvature, *named.values())), 1.0))
            return narrowed(result, found.half, None if k is None else lambda y, dtype: metric.narrowed(y, jnp.asarray(k, y.dtype), dtype))

        return mapped

    return decorate


def convert(x: Number, source: str, target: str, c: Curvature = 1.0) -> Number:
    """x in the model `source` as the same point in the model `target`; by way of the hyperboloid if there is no direct map."""
    for name, model in (("source", source), ("target", target)):
        if model not in MODELS:
            raise ValueError(f"convert: {name} is {model!r}; choose one of {', '.join(MODELS)}")
    if source == target:
        return x
    if (source, target) in _DIRECT:
        return _DIRECT[source, target](x, c)
    return _DIRECT["hyperboloid", target](_DIRECT[source, "hyperboloid"](x, c), c)


@_taking_numbers()
def ball_to_hyperboloid(x: Ball, c: Curvature = 1.0) -> Hyperboloid:
    """((1 + c|x|²)/√c, 2x)/(1 - c|x|²), accurate up to the last float before the boundary."""
    c = jnp.asarray(c, x.dtype)
    return jnp.concatenate([(1 + c * dot(x, x)) / jnp.sqrt(c), 2 * x], -1) / conformal(x, -c)


@_taking_numbers(lambda c: -c)
def hyperboloid_to_ball(x: Hyperboloid, c: Curvature = 1.0) -> Ball:
    """x/(1 + √c x₀)."""
    c = jnp.asarray(c, x.dtype)
    return lorentz_to_poincare(x, 1 / c) / jnp.sqrt(c)


@_taking_numbers(lambda k: -1.0)
def lorentz_to_poincare(x: Hyperboloid, k: Curvature) -> Ball:
    """geoopt's map from -x₀² + |x|² = -k to the unit ball of curvature -1, x/(x₀ + √k), which divides distances by √k."""
    return trig.over(x[..., 1:], x[..., :1] + jnp.sqrt(jnp.asarray(k, x.dtype)))


@_taking_numbers()
def poincare_to_lorentz(x: Ball, k: Curvature) -> Hyperboloid:
    """The inverse of `lorentz_to_poincare`: √k (1 + |x|², 2x)/(1 - |x|²)."""
    return jnp.sqrt(jnp.asarray(k, x.dtype)) * ball_to_hyperboloid(x)


@_taking_numbers()
def klein_to_hyperboloid(x: Klein, c: Curvature = 1.0) -> Hyperboloid:
    """(1/√c, x)/√(1 - c|x|²)."""
    c = jnp.asarray(c, x.dtype)
    time = jnp.broadcast_to(1 / jnp.sqrt(c), (*x.shape[:-1], 1))
    return jnp.concatenate([time, x], -1) / jnp.sqrt(conformal(x, -c))


@_taking_numbers(lambda c: -c)
def hyperboloid_to_klein(x: Hyperboloid, c: Curvature = 1.0) -> Klein:
    """x/(√c x₀)."""
    return x[..., 1:] / (jnp.sqrt(jnp.asarray(c, x.dtype)) * x[..., :1])


@_taking_numbers(lambda c: -c)
def ball_to_klein(x: Ball, c: Curvature = 1.0) -> Klein:
    """2x/(1 + c|x|²)."""
    return 2 * x / (1 + jnp.asarray(c, x.dtype) * dot(x, x))


@_taking_numbers(lambda c: -c)
def klein_to_ball(x: Klein, c: Curvature = 1.0) -> Ball:
    """x/(1 + √(1 - c|x|²))."""
    return x / (1 + jnp.sqrt(1 - jnp.asarray(c, x.dtype) * dot(x, x)))


@_taking_numbers()
def hyperboloid_to_half_space(x: Hyperboloid, c: Curvature = 1.0) -> HalfSpace:
    """t = 1/(√c (x₀ - x_d)), z = t √c (x₁, …, x_{d-1}).

    1/(x₀ - x_d) is c (x₀ + x_d)/(1 + c|(x₁, …, x_{d-1})|²), which does not cancel where x_d > 0.
    """
    c = jnp.asarray(c, x.dtype)
    time, middle, last = x[..., :1], x[..., 1:-1], x[..., -1:]
    forward = last > 0
    difference = jnp.where(forward, 1, time - last)
    t = jnp.where(forward, jnp.sqrt(c) * (time + last) / (1 + c * dot(middle, middle)), 1 / (jnp.sqrt(c) * difference))
    return jnp.concatenate([t * jnp.sqrt(c) * middle, t], -1)


@_taking_numbers()
def half_space_to_hyperboloid(x: HalfSpace, c: Curvature = 1.0) -> Hyperboloid:
    """(1 + |x|², 2z, |x|² - 1)/(2 √c t), with |x|² = |z|² + t²."""
    z, t = x[..., :-1], x[..., -1:]
    square = dot(z, z)
    # |x|² - 1 without squaring a t near 1.
    last = square + (t - 1) * (t + 1)
    return jnp.concatenate([1 + square + t * t, 2 * z, last], -1) / (2 * jnp.sqrt(jnp.asarray(c, x.dtype)) * t)


@_taking_numbers()
def klein_metric(x: Float[Array, " d"], c: Curvature = 1.0) -> Float[Array, "d d"]:
    """The metric tensor of the Klein ball."""
    gap = 1 - c * jnp.sum(x * x)
    return jnp.eye(x.shape[-1], dtype=x.dtype) / gap + c * jnp.outer(x, x) / gap**2


@_taking_numbers()
def half_space_metric(x: Float[Array, " d"], c: Curvature = 1.0) -> Float[Array, "d d"]:
    """The metric tensor of the upper half-space."""
    return jnp.eye(x.shape[-1], dtype=x.dtype) / (c * x[-1] ** 2)


_DIRECT = {
    ("ball", "hyperboloid"): ball_to_hyperboloid,
    ("hyperboloid", "ball"): hyperboloid_to_ball,
    ("klein", "hyperboloid"): klein_to_hyperboloid,
    ("hyperboloid", "klein"): hyperboloid_to_klein,
    ("ball", "klein"): ball_to_klein,
    ("klein", "ball"): klein_to_ball,
    ("hyperboloid", "half_space"): hyperboloid_to_half_space,
    ("half_space", "hyperboloid"): half_space_to_hyperboloid,
}
