"""The wrapped normal: densities integrate to 1, samples have them, ball and hyperboloid agree, gradients are finite."""

from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import mpf

from parity_tests import draws
from parity_tests.oracle import densities
from port_jax.distributions import WrappedNormal
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, SphereProjection, Stereographic
from port_jax.manifolds.isometries import ball_to_hyperboloid

MEAN, SCALE = jnp.array([0.3, -0.2]), jnp.array([0.4, 0.7])
log_prob = jax.jit(WrappedNormal.log_prob)
sample = jax.jit(WrappedNormal.sample, static_argnums=2)


def test_integrates_to_one():
    """Over the tangent plane at the mean, whose volume element sinh(√c r)/(√c r) the density's second term undoes."""
    t = np.linspace(-6, 6, 161)
    v = jnp.asarray(np.stack(np.meshgrid(t, t), -1).reshape(-1, 2))

    @jax.jit
    def mass(c):
        ball = Stereographic(-c)
        normal = WrappedNormal(ball, MEAN, SCALE)
        u = ball.transp0(MEAN, 0.5 * v)
        r = jnp.sqrt(c * jnp.sum(v * v, -1))
        volume = jnp.where(r > 0, jnp.sinh(r) / jnp.where(r > 0, r, 1), 1)
        return jnp.sum(jnp.exp(normal.log_prob(ball.expmap(MEAN, u, project=False))) * volume) * (t[1] - t[0]) ** 2

    # At c = 0.7 the far corners (distance 8) are close enough to the boundary to cost digits.
    for c in (1e-4, 0.3, 0.7):
        np.testing.assert_allclose(mass(c), 1, rtol=1e-6)


def test_densities_and_samples_at_50_digits():
    """Points from noise, and their density by the determinant of the map, in three dimensions, near the mean and far from it."""
    rng, c = draws.rng(3), 1.3
    mean, scale = rng.uniform(-0.4, 0.4, 3), 0.3 + rng.random(3)
    noise = np.stack([1e-3 * rng.normal(size=3), rng.normal(size=3), 2 * rng.normal(size=3)])
    normal = WrappedNormal(PoincareBall(c), jnp.asarray(mean), jnp.asarray(scale))
    x = jax.jit(WrappedNormal.from_noise)(normal, noise)
    with mpmath.workdps(50):
        m, s, k = [mpf(a) for a in mean], [mpf(a) for a in scale], -mpf(c)
        vs = [[mpf(a) * b for a, b in zip(row, s)] for row in noise]
        points = np.array([[float(a) for a in densities.wrapped(m, v, k)] for v in vs])
        exact = np.array([float(densities.log_density(m, s, v, k)) for v in vs])
    np.testing.assert_allclose(x, points, rtol=1e-13)
    np.testing.assert_allclose(log_prob(normal, x), exact, rtol=1e-11)


def test_flat_limit_is_the_normal():
    # Stereographic(0) has the metric 4|dx|².
    normal = WrappedNormal(Stereographic(0.0), MEAN, SCALE)
    x = jnp.array([[0.1, 0.5], [0.3, -0.2]])
    z = 2 * (x - MEAN) / SCALE
    expected = -0.5 * jnp.sum(z**2, -1) - jnp.sum(jnp.log(SCALE)) - np.log(2 * np.pi)
    np.testing.assert_allclose(log_prob(normal, x), expected, rtol=1e-13)


def test_models_agree_and_samples_have_the_density():
    key = draws.key(0)
    for c in (0.5, 2.0):
        ball, lorentz = PoincareBall(c), Lorentz(1 / c)
        there = partial(ball_to_hyperboloid, c=c)
        a, b = WrappedNormal(ball, MEAN, SCALE), WrappedNormal(lorentz, there(MEAN), SCALE)
        x = sample(a, key, 400)
        y = there(x)
        found = log_prob(a, x)
        np.testing.assert_allclose(sample(b, key, 400), y, rtol=1e-7)
        np.testing.assert_allclose(log_prob(b, y), found, rtol=1e-7, atol=1e-7)
        # E log p: the tangent normal's entropy and the mean of the volume's logarithm, over the same draws.
        v = SCALE * jax.random.normal(key, (400, 2))
        r = jnp.sqrt(c) * jnp.linalg.norm(v, axis=-1)
        expected = -0.5 * jnp.sum((v / SCALE) ** 2, -1) - jnp.sum(jnp.log(SCALE)) - np.log(2 * np.pi) - jnp.log(jnp.sinh(r) / r)
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)


def test_gradients():
    """In x, mean, scale and curvature, at the mean itself and far away; float32 stays float32."""

    @jax.jit
    def gradients(x, mean, scale, c):
        return jax.grad(lambda x, m, s, c: WrappedNormal(PoincareBall(c), m, s).log_prob(x), argnums=(0, 1, 2, 3))(x, mean, scale, c)

    far = PoincareBall(0.7).expmap0(jnp.array([4.0, 0]))
    for x in (MEAN, far):
        assert all(np.isfinite(g).all() for g in gradients(x, MEAN, SCALE, 0.7))
    h = 1e-6
    ends = [log_prob(WrappedNormal(PoincareBall(0.7 + s), MEAN, SCALE), far) for s in (h, -h)]
    np.testing.assert_allclose(gradients(far, MEAN, SCALE, 0.7)[3], (ends[0] - ends[1]) / (2 * h), rtol=1e-6)
    low = WrappedNormal(PoincareBall(0.7), MEAN.astype(jnp.float32), 0.5)
    assert sample(low, draws.key(0), 3).dtype == jnp.float32
    assert log_prob(low, low.mean).dtype == jnp.float32
    # sinh overflows float32 at 89; its logarithm does not.
    assert np.isfinite(
        log_prob(WrappedNormal(Lorentz(1.0), jnp.array([1.0, 0, 0], jnp.float32), 5.0), jnp.array([1e30, 1e30, 0], jnp.float32))
    )
    sphere = WrappedNormal(SphereProjection(1.0), MEAN, 0.3)
    assert np.isfinite(log_prob(sphere, sample(sphere, draws.key(1), 10))).all()


def test_bad_input():
    with pytest.raises(TypeError, match="manifold is Euclidean"):
        WrappedNormal(Euclidean(1), MEAN)
    with pytest.raises(ValueError, match="scale must be finite and positive"):
        WrappedNormal(PoincareBall(0.7), MEAN, 0.0)
    with pytest.raises(ValueError, match="last axis has 3 numbers; PoincareBall here has dimension 2"):
        WrappedNormal(PoincareBall(0.7), MEAN).from_noise(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="not on Lorentz"):
        WrappedNormal(Lorentz(1.0), jnp.array([0.0, 1, 2]))
