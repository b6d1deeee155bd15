"""The Fréchet mean: stationary, equal to closed forms, and with the derivatives of the implicit function theorem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws
from port_jax.frechet import frechet_mean, frechet_variance
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, Sphere, SymmetricPositiveDefinite
from port_jax.manifolds.isometries import ball_to_hyperboloid, hyperboloid_to_ball

RNG = draws.stream(53)
DRAWN = RNG.standard_normal((6, 3))
POINTS = jnp.asarray(0.9 * DRAWN / np.sqrt(5 + (DRAWN**2).sum(1, keepdims=True)))  # within 0.9 of the unit ball's radius
WEIGHTS = jnp.asarray(RNG.uniform(0.2, 2, 6))
mean_of = jax.jit(frechet_mean)


def test_the_mean_on_the_hyperboloid_is_stationary():
    """By the textbook's logarithm a/sinh(a) (x - cosh(a) m), with cosh(a) = -⟨m, x⟩/k."""
    k, x = 1 / 0.7, np.asarray(ball_to_hyperboloid(POINTS / np.sqrt(0.7), 0.7))
    mean = np.asarray(mean_of(Lorentz(k), jnp.asarray(x), WEIGHTS))
    np.testing.assert_allclose(mean[0] ** 2 - mean[1:] @ mean[1:], k, rtol=1e-13)
    cosh = (x[:, :1] * mean[0] - x[:, 1:] @ mean[1:, None]) / k
    angle = np.arccosh(cosh)
    pull = np.asarray(WEIGHTS) @ (angle / np.sinh(angle) * (x - cosh * mean))
    np.testing.assert_allclose(pull, 0, atol=1e-12)


@pytest.mark.slow
def test_models_agree():
    """Ball and hyperboloid have one mean for each curvature; the flat limit is the weighted mean."""

    @jax.jit
    @jax.vmap
    def both(c):
        ball, x = PoincareBall(c), POINTS / jnp.sqrt(c)
        mean = frechet_mean(ball, x, WEIGHTS)
        pull = jnp.tensordot(WEIGHTS, ball.logmap(mean, x), 1)
        other = frechet_mean(Lorentz(1 / c), ball_to_hyperboloid(x, c), WEIGHTS)
        return mean, pull, hyperboloid_to_ball(other, c)

    for mean, pull, other in zip(*both(jnp.array([0.05, 0.7, 9.0]))):
        np.testing.assert_allclose(pull, 0, atol=1e-12)
        np.testing.assert_allclose(mean, other, rtol=1e-8, atol=1e-10)
    flat = mean_of(Euclidean(1), POINTS, WEIGHTS)
    np.testing.assert_allclose(flat, np.average(POINTS, axis=0, weights=WEIGHTS), rtol=1e-12)
    two = mean_of(PoincareBall(0.7), POINTS[:2])
    half = jax.jit(PoincareBall(0.7).geodesic)(jnp.array([0.5]), *POINTS[:2])
    np.testing.assert_allclose(two, half, rtol=1e-9)


STEP = 1e-5
"""Of finite differences."""


def pulled(x, w, c):
    """A number of the mean, and its gradients by points, weights and curvature."""
    cotangent = jnp.array([0.3, -1.2, 0.8])
    return jax.value_and_grad(lambda x, w, c: frechet_mean(PoincareBall(c), x, w) @ cotangent, argnums=(0, 1, 2))(x, w, c)


@pytest.mark.slow  # as the means' own equations
def test_derivatives():
    """By points, weights and curvature against finite differences; what shifts the weights' sum shifts nothing."""
    args, derivatives = (POINTS, WEIGHTS, jnp.asarray(0.7)), jax.jit(pulled)
    _, gradients = derivatives(*args)
    for i, (argument, gradient) in enumerate(zip(args, gradients)):
        direction = jnp.asarray(RNG.standard_normal(argument.shape))
        ends = [derivatives(*(a + s * STEP * direction if j == i else a for j, a in enumerate(args)))[0] for s in (1, -1)]
        np.testing.assert_allclose(jnp.sum(gradient * direction), (ends[0] - ends[1]) / (2 * STEP), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(jnp.sum(gradients[1] * WEIGHTS), 0, atol=1e-12)


@pytest.mark.slow  # the first derivative is in the test above, and second ones of implicit functions in test_spectral.py
def test_second_derivative_by_the_curvature():
    slope = jax.jit(lambda c: jax.value_and_grad(lambda c: pulled(POINTS, WEIGHTS, c)[1][2])(c))
    ends = [slope(jnp.asarray(0.7 + s * STEP))[0] for s in (1, -1)]
    np.testing.assert_allclose(slope(jnp.asarray(0.7))[1], (ends[0] - ends[1]) / (2 * STEP), rtol=1e-5)


@pytest.mark.slow
def test_curved_the_other_way_and_matrices():
    sphere = Sphere()
    x = sphere.projx(jnp.array([0.0, 0, 2]) + POINTS)
    mean = mean_of(sphere, x, WEIGHTS)
    np.testing.assert_allclose(jnp.tensordot(WEIGHTS, sphere.logmap(mean, x), 1), 0, atol=1e-13)
    gradient = jax.jit(jax.grad(lambda x: frechet_mean(sphere, x, WEIGHTS)[0]))(x)
    assert np.isfinite(gradient).all()
    # Commuting matrices: the mean is the geometric one.
    spd, diagonals = SymmetricPositiveDefinite(), jnp.exp(POINTS)
    mean, variance = jax.jit(frechet_variance)(spd, diagonals[..., None] * jnp.eye(3))
    np.testing.assert_allclose(mean, np.diag(np.exp(POINTS.mean(0))), atol=1e-12)
    np.testing.assert_allclose(variance, np.sum(np.var(POINTS, 0)), rtol=1e-12)


def test_far_and_coincident_points():
    ball = PoincareBall(0.7)
    three = POINTS[:3]  # all sets have one shape, so that one program serves them
    far = jax.jit(ball.expmap0)(jnp.array([[6.0, 0, 0], [-6, 0.5, 0], [0, 5, 0]]))
    mean = mean_of(ball, far)
    np.testing.assert_allclose(jnp.sum(jax.jit(ball.logmap)(mean, far), 0), 0, atol=1e-8)
    same = jnp.stack([POINTS[0]] * 3)
    np.testing.assert_allclose(mean_of(ball, same), POINTS[0], rtol=1e-14)
    jacobian = jax.jit(jax.jacobian(lambda x: frechet_mean(ball, x)))(same)
    np.testing.assert_allclose(jacobian[:, 1], np.eye(3) / 3, atol=1e-12)
    low = mean_of(ball, three.astype(jnp.float32))
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, mean_of(ball, three), rtol=1e-4, atol=1e-5)
    sets = jnp.stack([three, 0.5 * three])
    found = jax.jit(jax.vmap(lambda x: frechet_mean(ball, x)))(sets)
    np.testing.assert_allclose(found[1], mean_of(ball, sets[1]), rtol=1e-10)


def test_bad_input():
    with pytest.raises(ValueError, match=r"points have shape \(2, 6, 3\); one axis of points"):
        frechet_mean(PoincareBall(1.0), jnp.zeros((2, 6, 3)))
    with pytest.raises(ValueError, match=r"weights have shape \(2,\); 6 points need"):
        frechet_mean(PoincareBall(1.0), POINTS, jnp.ones(2))
