"""Euclidean space against geoopt: every operation with 0, 1 and 2 axes a point, broadcasting, and samples."""

from __future__ import annotations

import functools

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws
from parity_tests.manifolds.parity import Operation, compare
from parity_tests.tolerances import DEVIATIONS
from port_jax.manifolds import Euclidean

METHODS = {
    "inner": ("x", "u", "v"),
    "component_inner": ("x", "u", "v"),
    "norm": ("x", "u"),
    "proju": ("x", "u"),
    "projx": ("x",),
    "egrad2rgrad": ("x", "u"),
    "retr": ("x", "u"),
    "expmap": ("x", "u"),
    "logmap": ("x", "y"),
    "dist": ("x", "y"),
    "dist2": ("x", "y"),
    "transp": ("x", "y", "v"),
}
REDUCING = ("inner", "norm", "dist", "dist2")


def arrays(**shapes):
    rng = draws.rng(0)
    return {name: rng.standard_normal(shapes.get(name, (5, 4, 3))) for name in "xyuv"}


def operation(name, names, ndim, **options):
    theirs, mine = geoopt.Euclidean(ndim=ndim), Euclidean(ndim)
    return Operation(functools.partial(getattr(theirs, name), **options), functools.partial(getattr(mine, name), **options), names)


@pytest.mark.parametrize("ndim", [0, 1, 2])
def test_against_geoopt(ndim):
    operations = {name: operation(name, names, ndim) for name, names in METHODS.items()}
    operations |= {f"{name} kept": operation(name, METHODS[name], ndim, keepdim=True) for name in REDUCING}
    operations["inner of one"] = operation("inner", ("x", "u"), ndim)
    operations["component_inner of one"] = operation("component_inner", ("x", "u"), ndim)
    # One or two roundings an entry, and sums of at most 12 products.
    compare(operations, arrays(), rtol=1e-15)
    single = arrays(u=(4, 3), v=(1, 4, 3), y=(1, 4, 3))
    # geoopt's norm has no x to broadcast against
    compare({name: op for name, op in operations.items() if "norm" not in name}, single, rtol=1e-14, f32=False)


def test_gradients_where_the_norm_has_none():
    for ndim in (0, 1, 2):
        manifold = Euclidean(ndim)
        x = jnp.ones((2, 3))
        total = lambda y, u, m=manifold, x=x: jnp.sum(m.dist(x, y)) + jnp.sum(m.norm(x, u))  # noqa: E731
        for gradient in jax.grad(total, (0, 1))(x, jnp.zeros((2, 3))):
            np.testing.assert_array_equal(gradient, 0)


def test_samples():
    x = Euclidean(1).random_normal(draws.key(0), 4000, 3, mean=jnp.array([1.0, -2.0, 0.0]), std=0.7)
    # standard errors of the mean and of the deviation of 4000 normal numbers
    np.testing.assert_allclose(x.mean(0), [1, -2, 0], atol=DEVIATIONS * 0.7 / 4000**0.5)
    np.testing.assert_allclose(x.std(0), 0.7, atol=DEVIATIONS * 0.7 / 8000**0.5)
    np.testing.assert_array_equal(Euclidean(1).random(draws.key(0), 5, std=2.0), 2 * jax.random.normal(draws.key(0), (5,)))
    np.testing.assert_array_equal(Euclidean().origin(2, 3, dtype=jnp.float32), np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="ndim"):
        Euclidean(-1)


def test_points_are_rows_of_square_arrays_too():
    x, y = draws.rng(3).normal(size=(2, 4, 4))
    np.testing.assert_allclose(Euclidean(1).dist(x, y), np.linalg.norm(x - y, axis=-1), rtol=1e-14)
    np.testing.assert_allclose(Euclidean(1).inner(x, x, y), (x * y).sum(-1), rtol=1e-14)
