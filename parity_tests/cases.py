"""Points and tangent vectors in general position, and the special ones: origin, coincident, antipodal, zero tangents, padded rows."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def directions(rng: np.random.Generator, *shape: int) -> Array:
    """Unit vectors along the last axis."""
    raw = rng.standard_normal(shape)
    return raw / np.linalg.norm(raw, axis=-1, keepdims=True)


def ball_points(rng: np.random.Generator, n: int, d: int, k: float, radius: float) -> Array:
    """n points no two of which are collinear: the first at `radius` times the ball's, the rest spread below it."""
    part = radius * np.concatenate([[1.0], rng.uniform(0.3, 1, n - 1)])
    return directions(rng, n, d) * part[:, None] / np.sqrt(abs(k) or 1.0)


def ball_tangents(rng: np.random.Generator, x: Array, k: float, length: float = 1.0) -> Array:
    """Tangents whose Riemannian length is about `length` in units of the radius 1/sqrt|k|."""
    half_factor = 1 + k * np.sum(x * x, -1, keepdims=True)
    return directions(rng, *x.shape) * half_factor * rng.uniform(0.3, 1, (*x.shape[:-1], 1)) * length / np.sqrt(abs(k) or 1.0)


def lorentz_space(rng: np.random.Generator, n: int, d: int, k: float, distance: float) -> Array:
    """Space parts of n points, the first at `distance` (in units of sqrt(k)) from the origin and the rest below it."""
    part = distance * np.concatenate([[1.0], rng.uniform(0.3, 1, n - 1)])
    return directions(rng, n, d) * np.sinh(part)[:, None] * np.sqrt(k)


def special_rows(x: Array, y: Array) -> tuple[Array, Array]:
    """The pairs (x, y), and after them: x with itself, x with the origin, the origin with y, the origin with itself."""
    zero = np.zeros_like(x[:1])
    return np.concatenate([x, x[:1], x[:1], zero, zero]), np.concatenate([y, x[:1], zero, y[:1], zero])
