"""Tangents passed from layer to layer: `reach` against exp_0 followed by log_0."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, Sphere, Stereographic

SPACES = [(PoincareBall, 0.1), (PoincareBall, 0.7), (PoincareBall, 10.0), (Lorentz, 0.4), (Lorentz, 1.0), (Lorentz, 3.0)]


def tangents(manifold, dtype) -> jax.Array:
    """Short ones, some about as long as the ball's projection allows, some beyond; and 0."""
    rng = draws.rng(0)
    u = rng.standard_normal((60, 5))
    length = rng.uniform(0, 9, (60, 1)) if isinstance(manifold, PoincareBall) else rng.uniform(0, 60, (60, 1))
    unit = manifold.c**-0.5 if isinstance(manifold, PoincareBall) else manifold.k**0.5
    return jnp.asarray(u / np.linalg.norm(u, axis=1, keepdims=True) * length * unit, dtype).at[0].set(0)


# The curvature is an argument: one compilation a model serves all.
@partial(jax.jit, static_argnums=0)
def there_and_back(kind, value, u, g):
    """Value and cotangents of `within_reach` and of log_0 after exp_0."""

    def pulled(f):
        found, pull = jax.vjp(lambda c, u: f(kind(c), u), value, u)
        return found, *pull(g)

    return pulled(lambda manifold, u: manifold.within_reach(u)), pulled(lambda manifold, u: manifold.to_tangent0(manifold.from_tangent0(u)))


@pytest.mark.parametrize(("kind", "value"), SPACES)
def test_is_log_of_exp_with_its_derivatives(kind, value):
    u = tangents(kind(value), jnp.float64)
    g = jnp.asarray(draws.rng(1).standard_normal(u.shape))
    ours, theirs = there_and_back(kind, jnp.asarray(value), u, g)
    if kind is PoincareBall:
        assert 5 < (kind(value).reach(u) < 1).sum() < 55
    # at the boundary of the ball artanh multiplies roundings by 1/(1 - |x|²), 1e5
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * float(jnp.abs(g * u).sum()))


@pytest.mark.parametrize(("kind", "value"), SPACES)
def test_nothing_is_rounded_in_float32(kind, value):
    """Through the point, log_0 of exp_0 loses up to 1/(1 - |x|²) of the digits; without it, none."""
    manifold = kind(value)
    u = tangents(manifold, jnp.float32)
    most = 0.99 * np.arctanh(1 - 4e-3) / value**0.5 if kind is PoincareBall else np.inf
    u = u[jnp.linalg.norm(u, axis=1) < most]
    np.testing.assert_array_equal(manifold.within_reach(u), u)


def test_ends_where_numbers_end():
    """exp_0 takes the farthest point that float32 holds; log_0 of that point would overflow, so the tangent is shortened alike."""
    manifold = Lorentz(2.0)
    u = jnp.asarray([[200.0, 0.0], [0.0, -1e15]], jnp.float32)

    @jax.jit
    def ends(u):
        found = manifold.within_reach(u)
        return found, manifold.from_tangent0(found), manifold.from_tangent0(u)

    found, there, plain = ends(u)
    farthest = (np.log(np.finfo(np.float32).max) - 6) * 2**0.5
    np.testing.assert_allclose(found, [[farthest, 0], [0, -farthest]], rtol=1e-6)
    np.testing.assert_allclose(there, plain, rtol=1e-4)
    assert jnp.isfinite(there).all()


def test_other_spaces():
    u = tangents(PoincareBall(1.0), jnp.float64)
    np.testing.assert_array_equal(Euclidean().within_reach(u), u)
    np.testing.assert_array_equal(Euclidean().reach(u), 1)
    sphere = Stereographic(0.5)  # exp_0 winds around: it is not undone
    np.testing.assert_allclose(sphere.within_reach(u), sphere.to_tangent0(sphere.from_tangent0(u)))
    for other in (sphere, Sphere()):
        with pytest.raises(NotImplementedError, match=f"{other.name} has no reach"):
            other.reach(u)
