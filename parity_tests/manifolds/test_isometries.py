"""Maps between the models of hyperbolic space: inverses, isometries for every curvature, float32, gradients at the origin."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws
from port_jax.manifolds import Lorentz, PoincareBall, poincare_to_lorentz
from port_jax.manifolds.isometries import (
    MODELS,
    ball_to_hyperboloid,
    ball_to_klein,
    convert,
    half_space_metric,
    hyperboloid_to_ball,
    klein_metric,
    klein_to_ball,
)

RNG = draws.stream(43)
CURVATURES = jnp.array([1e-3, 0.7, 1.0, 40.0])


def ball_points(c, n: int = 6) -> jnp.ndarray:
    raw = RNG.standard_normal((n, 3))
    raw *= np.linspace(0.05, 0.95, n)[:, None] / np.linalg.norm(raw, axis=1, keepdims=True)
    return jnp.asarray(raw / np.sqrt(c))


def test_round_trips():
    """Through every pair of models and back, for four curvatures."""
    xs = jnp.stack([ball_points(float(c)) for c in CURVATURES])

    @jax.jit
    @jax.vmap
    def errors(x, c):
        there = {model: convert(x, "ball", model, c) for model in MODELS}
        size = jnp.max(jnp.abs(x))
        return [
            jnp.max(jnp.abs(convert(convert(there[a], a, b, c), b, "ball", c) - x)) / size for a, b in itertools.product(MODELS, MODELS)
        ]

    for error in errors(xs, CURVATURES):
        np.testing.assert_array_less(error, 1e-13)


def test_isometries():
    """Distances agree on ball and hyperboloid, and metrics pull back to the ball's on Klein ball and half-space."""
    for c in (0.7, 40.0):
        x, y = ball_points(c), ball_points(c)[::-1]
        lorentz = Lorentz(1 / c)
        x_, y_ = (convert(p, "ball", "hyperboloid", c) for p in (x, y))
        assert lorentz.check_point_on_manifold(x_)
        np.testing.assert_allclose(lorentz.dist(x_, y_), PoincareBall(c).dist(x, y), rtol=1e-10)
        ball = PoincareBall(c)
        for model, metric in (("klein", klein_metric), ("half_space", half_space_metric)):

            def pulled(p, model=model, metric=metric, c=c):
                jacobian = jax.jacfwd(lambda q: convert(q, "ball", model, c))(p)
                return jacobian.T @ metric(convert(p, "ball", model, c), c) @ jacobian

            expected = ball.lambda_x(x)[:, None, None] ** 2 * jnp.eye(3)
            np.testing.assert_allclose(jax.jit(jax.vmap(pulled))(x), expected, rtol=1e-8, atol=1e-8 * float(expected.max()))


def test_known_points():
    c = 4.0
    np.testing.assert_allclose(convert(jnp.zeros(3), "ball", "hyperboloid", c), [0.5, 0, 0, 0])
    np.testing.assert_allclose(convert(jnp.zeros(3), "klein", "half_space", c), [0, 0, 1])
    # Up by a distance d in the half-space is d/√c in its metric.
    up = convert(jnp.array([0.0, 0, np.e]), "half_space", "ball", c)
    np.testing.assert_allclose(PoincareBall(c).dist0(up), 1 / np.sqrt(c), rtol=1e-12)
    # Klein chords are straight: the midpoint of two points lies on their segment.
    x, y = ball_points(c)[1:3]
    middle = ball_to_klein(PoincareBall(c).geodesic(jnp.array([0.3]), x, y), c)
    a, b = ball_to_klein(x, c), ball_to_klein(y, c)
    np.testing.assert_allclose(np.linalg.norm(np.cross(b - a, middle - a)), 0, atol=1e-15)
    np.testing.assert_allclose(klein_to_ball(a, c), x, rtol=1e-13)


def test_far_points_and_gradients():
    """Far up the axis x₀ - x_d cancels; the half-space point keeps its digits. Gradients at the origins are finite."""
    for dtype in (jnp.float32, jnp.float64):
        t = jnp.asarray(1e6, dtype)
        x = jnp.stack([jnp.sqrt(1 + t * t + 9), jnp.asarray(3, dtype), t])
        found = convert(x, "hyperboloid", "half_space")
        assert found.dtype == dtype
        exact = np.array([3.0, 1]) * (1e6 + np.sqrt(1e12 + 10)) / 10
        np.testing.assert_allclose(found, exact, rtol=8 * jnp.finfo(dtype).eps)
    origins = {
        "ball": jnp.zeros(3),
        "klein": jnp.zeros(3),
        "half_space": jnp.array([0.0, 0, 1]),
        "hyperboloid": jnp.array([1.0, 0, 0, 0]),
    }

    @jax.jit
    def converted(origins):
        pairs = itertools.permutations(MODELS, 2)
        return {(a, b): (convert(origins[a], a, b), jax.jacfwd(lambda x: convert(x, a, b))(origins[a])) for a, b in pairs}  # noqa: B023

    for (_, b), (point, jacobian) in converted(origins).items():
        assert np.isfinite(jacobian).all()
        np.testing.assert_allclose(point, origins[b], atol=1e-15)


def test_bad_input():
    with pytest.raises(ValueError, match="target is 'poincare'; choose one of ball"):
        convert(jnp.zeros(2), "klein", "poincare")


def test_near_the_boundary_float32_loses_nothing():
    """At radius 0.99999 the plain 1 - c|x|² leaves x₀ 5e-3 off; the points given, in float64, are the truth."""
    rng = draws.rng(5)
    for c in (0.7, 1.0, 3.0):
        x = rng.standard_normal((200, 4))
        x = (0.99999 / np.sqrt(c) * x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        c = np.float32(c)
        found = jax.jit(ball_to_hyperboloid)(x, c)
        true = ball_to_hyperboloid(jnp.asarray(x, jnp.float64), float(c))
        assert found.dtype == np.float32
        assert np.max(np.abs(found - true) / np.abs(true).max(1, keepdims=True)) < 5e-6, float(c)
        back = jax.jit(hyperboloid_to_ball)(found, c)
        np.testing.assert_allclose(back, x, rtol=0, atol=3e-7 / float(c) ** 0.5)


def test_near_the_boundary_geoopt_divides_by_too_much():
    """geoopt adds 1e-6 to 1 - |x|², which is 2e-5 at radius 0.99999."""
    torch, geoopt = pytest.importorskip("torch"), pytest.importorskip("geoopt")
    x = draws.rng(5).standard_normal((50, 4))
    x *= 0.99999 / np.linalg.norm(x, axis=1, keepdims=True)
    true = np.asarray(poincare_to_lorentz(x, 1.0))
    theirs = geoopt.manifolds.lorentz.math.poincare_to_lorentz(torch.tensor(x), torch.tensor(1.0))
    short = x.astype(np.float32)
    ours, near = poincare_to_lorentz(short, 1.0), poincare_to_lorentz(short.astype(np.float64), 1.0)
    assert ours.dtype == np.float32
    scale = np.abs(true).max(1, keepdims=True)
    assert np.max(np.abs(theirs.numpy() - true) / scale) > 1e-2
    assert np.max(np.abs(ours - near) / scale) < 5e-6
