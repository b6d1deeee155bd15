"""riemannian_ogd: converges on saddles where descent and ascent by Riemannian gradients spirals outwards."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parity_tests import draws
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.optim.optimistic import riemannian_ogd
from port_jax.optim.riemannian_sgd import riemannian_sgd

BALLS = {"x": PoincareBall(0.8), "y": PoincareBall(1.9)}
CENTRE = {"x": jnp.array([0.2, -0.3]), "y": jnp.array([-0.1, 0.25])}
MIX = jnp.array([[1.2, 0.4], [-0.3, 0.9]])


def coordinates(point):
    return {name: ball.logmap(CENTRE[name], point[name]) for name, ball in BALLS.items()}


def game(point):
    """min over x, max over y of <log x, A log y>: a saddle at CENTRE without any curvature of its own."""
    u = coordinates(point)
    return u["x"] @ MIX @ u["y"]


def distance(point):
    return sum(float(ball.dist(CENTRE[name], point[name])) for name, ball in BALLS.items())


def run(tx, sign, steps):
    start = {name: ball.expmap(CENTRE[name], jnp.array([0.1, 0.15])) for name, ball in BALLS.items()}

    def step(carry, _):
        point, state = carry
        grads = jax.tree.map(lambda s, g: s * g, sign, jax.grad(game)(point))
        updates, state = tx.update(grads, state, point)
        return (optax.apply_updates(point, updates), state), None

    return start, jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), length=steps)[0][0])()


def test_it_converges_where_descent_and_ascent_does_not():
    tx = riemannian_ogd(1.5, manifolds=BALLS, ascend={"x": False, "y": True})
    start, end = run(tx, {"x": 1, "y": 1}, 600)
    assert distance(end) < 1e-4 * distance(start)
    plain = riemannian_sgd(1.5, manifolds=BALLS)
    start, end = run(plain, {"x": 1, "y": -1}, 40)
    assert distance(end) > 2 * distance(start)


def test_flat_steps_are_those_of_the_definition_and_of_optax():
    rng = draws.rng(0)
    x, grads = jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=(5, 3)))
    tx, other = riemannian_ogd(0.3, manifolds=Euclidean()), optax.optimistic_gradient_descent(0.3)
    state, reference = tx.init(x), other.init(x)
    for n, g in enumerate(grads):
        updates, state = tx.update(g, state, x)
        expected, reference = other.update(g, reference, x)
        np.testing.assert_allclose(updates, -0.3 * (2 * g - grads[max(n - 1, 0)]), rtol=1e-12)
        if n:
            np.testing.assert_allclose(updates, expected, rtol=1e-12)


def test_the_last_gradient_is_transported():
    """The gradient kept has the length it had: on the ball its coordinates change with the metric."""
    ball = BALLS["x"]
    x, g = jnp.array([0.3, 0.5]), jnp.array([0.7, -1.1])
    tx = riemannian_ogd(0.1, manifolds=ball)
    updates, state = tx.update(g, tx.init(x), x)
    r = ball.egrad2rgrad(x, g)
    assert float(ball.norm(x + updates, state.previous)) == pytest.approx(float(ball.norm(x, r)), rel=1e-9)
    assert float(jnp.abs(state.previous - r).max()) > 1e-3
    np.testing.assert_allclose(ball.logmap(x, x + updates), -0.1 * r, rtol=1e-8)


def test_a_gradient_of_none_leaves_its_player():
    tx = riemannian_ogd(0.1, manifolds=BALLS)
    updates, _ = tx.update({"x": jnp.ones(2), "y": None}, tx.init(CENTRE), CENTRE)
    assert not np.any(updates["y"])
    assert np.all(updates["x"])
