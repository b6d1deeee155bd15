"""Tangents whose square overflows lead to the boundary, and not to the origin; on spheres somewhere on the sphere."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import port_jax.manifolds as pm
from parity_tests import draws, slow

C, BATCH = 0.7, 4
BALLS: dict[str, pm.Manifold] = {
    "PoincareBall": pm.PoincareBall(C),
    "PoincareBallExact": pm.PoincareBallExact(C),
    "Stereographic": pm.Stereographic(-C),
    "Scaled": pm.Scaled(pm.PoincareBall(C), 2.5),
    "StereographicProductManifold": pm.StereographicProductManifold((pm.PoincareBall(C), 3)),
    "ProductManifold": pm.ProductManifold((pm.PoincareBall(C), 3)),
}
OTHERS: dict[str, tuple[pm.Manifold, int]] = {
    "Sphere": (pm.Sphere(), 4),
    "SphereProjection": (pm.SphereProjection(C), 3),
    "Euclidean": (pm.Euclidean(1), 3),
    "flat": (pm.Stereographic(0.0), 3),
}
LENGTHS = {jnp.float32: (1e10, 1e19, 1e20, 1e30, 3e38), jnp.float64: (1e100, 1e155, 1e200, 1e308)}
MARGIN = {jnp.float32: 4e-3, jnp.float64: 1e-5}


def unit(n: int, d: int) -> np.ndarray:
    """Directions whose largest entry is 1, so that no length in the table overflows as a number."""
    u = draws.rng(n).standard_normal((BATCH, d))
    return u / np.abs(u).max(-1, keepdims=True)


@functools.cache
def jitted(manifold: pm.Manifold, method: str) -> Callable:
    """The method at points x, for u = length times direction, and the gradient of a sum by the direction."""

    def at(u: jax.Array, x: jax.Array, length: jax.Array) -> jax.Array:
        u = u * length
        return {
            "expmap": lambda: manifold.expmap(x, u),
            "retr": lambda: manifold.retr(x, u),
            "expmap0": lambda: manifold.expmap0(u),
            "projx": lambda: manifold.projx(u),
            "within_reach": lambda: manifold.from_tangent0(manifold.within_reach(u)),
            "descend": lambda: manifold.descend(x, u, -1.0),
        }[method]()

    return jax.jit(lambda *args: (at(*args), jax.grad(lambda *args: jnp.sum(jnp.sin(at(*args))))(*args)))


WAYS = ("expmap0", "expmap", "retr", "projx", "descend", "within_reach")
KEPT = {*(("PoincareBall", way, jnp.float32) for way in WAYS), ("Stereographic", "expmap", jnp.float64)}
NEEDS = {"expmap0": "expmap0", "within_reach": "expmap0"}
TABLE = [(name, way, dtype) for name in BALLS for way in WAYS for dtype in LENGTHS if BALLS[name].has(NEEDS.get(way, "expmap"))]


@pytest.mark.parametrize(("name", "way", "dtype"), slow.all_but(KEPT, TABLE))
def test_they_end_at_the_boundary(name: str, way: str, dtype: type):
    """In their own direction from the origin; in the direction of x + u where the step begins at x, which is that of u."""
    manifold, u = BALLS[name], unit(1, 3)
    x = jnp.asarray(0.3 * unit(2, 3), dtype)
    direction = u / np.linalg.norm(u, axis=-1, keepdims=True)
    for length in LENGTHS[dtype]:
        if way == "within_reach" and length > 1e37 * (dtype is jnp.float32) + 1e305 * (dtype is jnp.float64):
            continue  # the factor itself is no normal number
        end, slope = jitted(manifold, way)(jnp.asarray(u, dtype), x, jnp.asarray(length, dtype))
        assert end.dtype == dtype
        assert np.isfinite(slope).all()
        radius = np.linalg.norm(np.asarray(end, np.float64), axis=-1) * np.sqrt(C)
        np.testing.assert_allclose(radius, 1 - MARGIN[dtype], rtol=8 * float(jnp.finfo(dtype).eps))
        if way != "expmap" and not (name.endswith("Exact") and way in ("retr", "descend")):  # which are expmap there
            np.testing.assert_allclose(end, direction * (1 - MARGIN[dtype]) / np.sqrt(C), rtol=0, atol=16 * float(jnp.finfo(dtype).eps))
    if way == "expmap":  # the end does not depend on the length once tanh is 1
        ends = [jitted(manifold, way)(jnp.asarray(u, dtype), x, jnp.asarray(length, dtype))[0] for length in (1e3, LENGTHS[dtype][-1])]
        np.testing.assert_allclose(*ends, rtol=0, atol=32 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("name", slow.all_but({"Sphere", "flat"}, OTHERS))
def test_other_manifolds_keep_them_finite(name: str):
    manifold, d = OTHERS[name]
    x = manifold.random(draws.key(3), BATCH, d, dtype=jnp.float32)
    for length in (1e19, 1e20, 1e30):
        u = manifold.proju(x, jnp.asarray(unit(4, d), jnp.float32))
        for way in ("expmap", "retr", *(["expmap0"] if manifold.has("expmap0") else [])):
            end, slope = jitted(manifold, way)(u, x, jnp.asarray(length, jnp.float32))
            assert np.isfinite(end).all()
            assert np.isfinite(slope).all()
            assert manifold.check_point_on_manifold(end)
    if name == "flat":
        np.testing.assert_array_equal(manifold.expmap0(1e30 * x), 1e30 * x)
    if name == "Sphere":
        far = np.asarray(manifold.projx(jnp.asarray(1e30 * unit(5, d), jnp.float32)))
        np.testing.assert_allclose(far, unit(5, d) / np.linalg.norm(unit(5, d), axis=-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("dtype", slow.all_but({jnp.float32}, LENGTHS))
def test_on_the_hyperboloid_they_end_at_the_farthest_point(dtype: type):
    """That of their direction: from the origin that of u, from x that of the geodesic, the null vector x + sqrt(k) u/|u|."""
    k = 1.7
    manifold = pm.Lorentz(k)
    x = manifold.expmap0(jnp.pad(jnp.asarray(0.5 * unit(2, 3), dtype), ((0, 0), (1, 0))))
    raw = np.pad(unit(1, 3), ((0, 0), (1, 0)))
    tangent = np.asarray(manifold.proju(x.astype(float), jnp.asarray(raw)))
    null = np.asarray(x, float) + np.sqrt(k) * tangent / np.asarray(manifold.norm(x.astype(float), jnp.asarray(tangent), keepdim=True))
    for way, u, direction in (("expmap0", raw, raw[:, 1:]), ("expmap", tangent, null[:, 1:]), ("retr", tangent, null[:, 1:])):
        for length in (1e4, *LENGTHS[dtype]):
            size = np.asarray(length, dtype) / np.abs(u).max()
            end = np.asarray(jitted(manifold, way)(jnp.asarray(u, dtype), x, jnp.asarray(size))[0], np.longdouble)
            assert np.isfinite(end).all()
            space = end[:, 1:]
            distance = np.log(2 * end[:, 0] / np.sqrt(k))
            assert (distance > np.log(float(jnp.finfo(dtype).max)) - 12).all()
            np.testing.assert_allclose(end[:, 0] / np.linalg.norm(space, axis=-1), 1, rtol=8 * float(jnp.finfo(dtype).eps))
            ours, right = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (space, direction))
            np.testing.assert_allclose(ours.astype(float), right, rtol=0, atol=64 * float(jnp.finfo(dtype).eps))
