"""geoopt's formulas around the origin: against its way of writing them at 50 digits, beside the hyperboloid, and on it against the maps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import acosh, cosh, mpf, sinh, sqrt, workdps

from parity_tests import draws
from parity_tests.oracle import lorentz
from parity_tests.oracle.lorentz import inner
from parity_tests.oracle.networks import exactly
from parity_tests.oracle.stereographic import plus, times
from parity_tests.tolerances import relative_error
from port_jax.manifolds import Lorentz
from port_jax.manifolds.hyperboloid import ambient
from weights.proof.flax_run import QUICK

quickly = partial(jax.jit, compiler_options=QUICK)
K = 1.7
RNG = draws.stream(3)
GATE = 1e-13
"""Of the largest entry. Points are within a distance of 2 of the origin and farther than 0.1 from each other and from it, so that
z² - 1 of the distances keeps 14 digits."""


def space(n: int = 5) -> np.ndarray:
    return 0.6 * RNG.normal(size=(n, 3))


def on(v: np.ndarray) -> np.ndarray:
    return np.concatenate([np.sqrt(K + (v * v).sum(-1, keepdims=True)), v], -1)


def beside(v: np.ndarray) -> np.ndarray:
    """Points off the hyperboloid by some hundredths, towards both sides."""
    return on(v) + 0.03 * RNG.normal(size=(len(v), 4))


def origin() -> list:
    return [sqrt(mpf(K)), mpf(0), mpf(0), mpf(0)]


def distance(x: list, y: list):
    return sqrt(mpf(K)) * acosh(-inner(x, y) / mpf(K))


def log(x: list, y: list) -> list:
    """d(x, y) w/|w|, w = y + <x, y> x/k, of any x and y."""
    w = plus(y, times(inner(x, y) / mpf(K), x))
    return times(distance(x, y) / sqrt(inner(w, w)), w)


def transported(x: list, y: list, v: list) -> list:
    """v - <log_x y, v>/d² (log_x y + log_y x)."""
    both = plus(log(x, y), log(y, x))
    return plus(v, times(-inner(log(x, y), v) / distance(x, y) ** 2, both))


def exp(x: list, u: list) -> list:
    """exp_x of u made tangent, with the time recomputed from the space."""
    u = plus(u, times(inner(x, u) / mpf(K), x))
    r = sqrt(inner(u, u) / mpf(K))
    return lorentz.point(plus(times(cosh(r), x), times(sinh(r) / r, u))[1:], mpf(K))


def test_from_the_origin_to_a_point_beside_the_hyperboloid_at_50_digits():
    """log_0 y and log_y 0 of such a point are of other lengths, and the transport is no isometry."""
    y, u = beside(space()), on(space()) * [0, 1, 1, 1]
    have = quickly(ambient.carried_from_origin)(y, u, K)
    with workdps(50):
        want = [exp(a, transported(origin(), a, b)) for a, b in zip(map(list, exactly(y)), map(list, exactly(u)), strict=True)]
    assert relative_error(have, np.array(want, float)) < GATE


def test_to_the_origin_from_a_point_beside_the_hyperboloid_at_50_digits():
    x, y = beside(space() + 1), beside(space() - 1)
    have = quickly(ambient.carried_to_origin)(x, y, K)
    with workdps(50):
        want = [transported(a, origin(), log(a, b)) for a, b in zip(map(list, exactly(x)), map(list, exactly(y)), strict=True)]
    assert relative_error(have, np.array(want, float)) < GATE


def test_on_the_hyperboloid_they_are_the_maps():
    manifold, x, y, u = Lorentz(K), on(space()), on(space() + 1), space()

    @quickly
    def pairs(x, y, u):
        padded = manifold.from_coordinates0(u)
        return (
            (ambient.carried_to_origin(x, y, K), manifold.transp0back(x, manifold.logmap(x, y))),
            (ambient.carried_from_origin(y, padded, K), manifold.expmap(y, manifold.transp0(y, padded))),
            (ambient.exp0(u, K), manifold.from_tangent0(u)),
            (ambient.log0(y, K), manifold.to_tangent0(y)),
            (ambient.onto(x + 2 * y, K), manifold.weighted_midpoint(jnp.stack([x, y]), jnp.array([1.0, 2.0])[:, None], reducedim=(0,))),
        )

    for have, want in pairs(x, y, u):
        assert relative_error(have, want) < GATE


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_goes_farther_than_ten_radii(dtype: str):
    far = jnp.asarray(np.array([[0, 3.0, 4.0, 0]]) * 50, dtype)
    root, base = np.sqrt(K), jnp.asarray([[np.sqrt(K), 0, 0, 0]], dtype)
    for point in quickly(lambda far, base: (ambient.carried_from_origin(base, far, K), ambient.exp0(far[:, 1:], K)))(far, base):
        np.testing.assert_allclose(point[0, 1:] / root, np.sinh(10) * np.array([0.6, 0.8, 0]), rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_derivatives_are_finite_at_the_origin_and_where_points_coincide(dtype: str):
    o = jnp.asarray([[np.sqrt(K), 0, 0, 0]] * 2, dtype)
    x, u = jnp.asarray(on(space(2)), dtype), jnp.zeros((2, 4), dtype)
    near = x * (1 + 1e-6)

    def whole(o, x, near, u, k):
        parts = (
            ambient.carried_to_origin(x, x, k), ambient.carried_to_origin(x, near, k), ambient.carried_to_origin(o, o, k),
            ambient.carried_to_origin(o, x, k), ambient.carried_from_origin(o, u, k), ambient.carried_from_origin(x, u, k),
            ambient.exp0(u[..., 1:], k), ambient.log0(o, k), ambient.onto(x, k),
        )  # fmt: skip
        return sum(part.sum() for part in parts)

    grads = quickly(jax.grad(whole, range(5)))(o, x, near, u, jnp.asarray(K, dtype))
    assert all(bool(jnp.isfinite(g).all()) for g in grads)
