"""The Fréchet mean by its fixed point: at 50 digits with its derivatives, beside the one for any manifold, and for several sets at once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from mpmath import mpf, workdps

from parity_tests import draws
from parity_tests.oracle import stereographic
from parity_tests.oracle.networks import exactly
from port_jax.frechet import frechet_mean
from port_jax.manifolds import PoincareBall
from port_jax.manifolds.stereographic.fixed_point_mean import fixed_point_mean
from reference_torch.layers.hypll import FrechetMean

C = 0.7
SETTLED = 1e-11
"""An iteration that stops at a change of 1e-12 is this near to where it leads."""


def drawn(n: int = 5, d: int = 3, seed: int = 2) -> np.ndarray:
    """Points within 0.8 of the radius."""
    rows = draws.rng(seed).normal(size=(n, d))
    return 0.8 * rows / np.sqrt(3 + (rows**2).sum(-1, keepdims=True)) / np.sqrt(C)


@jax.jit
def pulled(x, c, cotangent):
    """The mean, and its derivatives along a cotangent."""
    mean, back = jax.vjp(lambda x, c: fixed_point_mean(x, -c), x, c)
    return mean, *back(cotangent)


def test_the_mean_and_its_derivatives_at_50_digits():
    """By the points and by the curvature: differences of means that are known to 50 digits."""
    x, direction, cotangent = drawn(), draws.rng(3).normal(size=(5, 3)), draws.rng(4).normal(size=3)
    mean, by_points, by_c = pulled(jnp.asarray(x), jnp.asarray(C), jnp.asarray(cotangent))
    with workdps(50):
        exact, way, weights = (exactly(a).tolist() for a in (x, direction, cotangent))
        c, h = mpf(C), mpf(10) ** -14
        want = np.array(stereographic.frechet_mean(exact, -c), float)

        def value(s, t):
            moved = [[a + s * b for a, b in zip(row, ways, strict=True)] for row, ways in zip(exact, way, strict=True)]
            return stereographic.dot(stereographic.frechet_mean(moved, -(c + t)), weights)

        along = float((value(h, 0) - value(-h, 0)) / (2 * h))
        slope = float((value(0, h) - value(0, -h)) / (2 * h))
    assert np.abs(mean - want).max() < SETTLED * np.abs(want).max()
    assert abs(float(jnp.sum(by_points * direction)) - along) < 10 * SETTLED * abs(along)
    assert abs(float(by_c) - slope) < 10 * SETTLED * abs(slope)


def test_the_original_and_the_mean_for_any_manifold():
    """Two other programs: HypLL's iteration with derivatives from the Hessian of the variance, and descent along the gradient."""
    x, cotangent = drawn(7, 4), draws.rng(5).normal(size=4)
    ours = pulled(jnp.asarray(x), jnp.asarray(C), jnp.asarray(cotangent))
    points, c = torch.tensor(x, requires_grad=True), torch.tensor(C, dtype=torch.float64, requires_grad=True)
    mean = FrechetMean.apply(points, c)
    mean.backward(torch.tensor(cotangent))
    for have, want in zip(ours, (mean.detach(), points.grad, c.grad), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=10 * SETTLED * np.abs(want).max())
    other, back = jax.vjp(lambda x, c: frechet_mean(PoincareBall(c), x), jnp.asarray(x), jnp.asarray(C))
    for have, want in zip(ours, (other, *back(jnp.asarray(cotangent))), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=10 * SETTLED * np.abs(want).max())


def test_sets_do_not_depend_on_each_other_but_stop_together():
    """Of two sets, one of equal points, which has settled at once: the other is what it is alone, to the tolerance."""
    rows = drawn(4)
    both = jnp.asarray(np.stack([rows, np.broadcast_to(rows[:1], rows.shape)]))
    mean = jax.jit(partial(fixed_point_mean, k=jnp.asarray(-C)))
    together, alone = mean(both), mean(both[0])
    np.testing.assert_allclose(together[0], alone, rtol=0, atol=SETTLED)
    np.testing.assert_allclose(together[1], rows[0], rtol=1e-14)
    jacobian = np.asarray(jax.jit(jax.jacobian(mean))(both))
    assert np.isfinite(jacobian).all()
    assert not np.any(jacobian[0, :, 1])
    np.testing.assert_allclose(jacobian[1, :, 1].sum(1), np.eye(3), atol=1e-9)  # all equal points moved at once
    mapped = jax.jit(jax.vmap(mean))(both)
    np.testing.assert_allclose(mapped, together, rtol=0, atol=SETTLED)


def test_second_derivatives():
    """By the curvature, beside differences of the first."""
    slope = jax.jit(lambda c: jax.value_and_grad(lambda c: pulled(jnp.asarray(drawn()), c, jnp.ones(3))[2])(c))
    ends = [slope(jnp.asarray(C + s * 1e-4))[0] for s in (1, -1)]
    np.testing.assert_allclose(slope(jnp.asarray(C))[1], (ends[0] - ends[1]) / 2e-4, rtol=1e-6)


@pytest.mark.slow  # the mean above, in other types
def test_types_and_one_point():
    x = jnp.asarray(drawn(), jnp.float32)
    single = fixed_point_mean(x, jnp.asarray(-C))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, pulled(jnp.asarray(drawn()), jnp.asarray(C), jnp.ones(3))[0], rtol=0, atol=5e-6)
    np.testing.assert_allclose(fixed_point_mean(x[:1], jnp.asarray(-C)), x[0], rtol=1e-6)
    jacobian = jax.jacobian(lambda x: fixed_point_mean(x, jnp.asarray(-C)))(jnp.zeros((2, 3)))
    np.testing.assert_allclose(jacobian.sum(1), np.eye(3), atol=1e-12)
