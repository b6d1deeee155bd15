"""sharpness_aware: the definition, torch's SAM on flat space by hand, and a sharp minimum that it leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parity_tests import draws
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, SphereProjection
from port_jax.manifolds.stiefel import CanonicalStiefel
from port_jax.optim import gradients
from port_jax.optim.riemannian_sgd import riemannian_sgd
from port_jax.optim.sharpness_aware import sharpness_aware

BALL = PoincareBall(1.3)


@pytest.mark.parametrize("manifold", [Euclidean(), BALL, SphereProjection(0.7), Lorentz(1.6), CanonicalStiefel()])
def test_flat_is_the_inverse_of_egrad2rgrad(manifold):
    rng = draws.rng(1)

    @jax.jit
    def there_and_back(x, u):
        x = manifold.projx(x)
        u = manifold.proju(x, u)
        if isinstance(manifold, CanonicalStiefel):  # whose proju is not idempotent
            u = manifold.egrad2rgrad(x, u)
        return manifold.egrad2rgrad(x, gradients.flat(manifold, x, u)), u

    found, u = there_and_back(0.3 * rng.normal(size=(4, 2)), rng.normal(size=(4, 2)))
    np.testing.assert_allclose(found, u, rtol=1e-10, atol=1e-12)


def test_gradients_are_those_at_the_worst_point_carried_back():
    rng = draws.rng(2)
    params = {"x": BALL.expmap0(jnp.asarray(rng.normal(size=(3, 2)))), "w": jnp.asarray(rng.normal(size=4))}
    weights = jnp.asarray(rng.normal(size=(3, 2)))

    def loss(p, scale):
        return scale * (jnp.sum(jnp.sin(3 * p["x"] * weights)) + jnp.sum(p["w"] ** 4) + jnp.sum(p["x"]) * p["w"][0])

    value, found = jax.jit(sharpness_aware(loss, 0.1, manifolds={"x": BALL, "w": Euclidean()}))(params, 0.7)

    @jax.jit
    def defined(params):
        g = jax.grad(loss)(params, 0.7)
        r = BALL.egrad2rgrad(params["x"], g["x"])
        length = jnp.sqrt(jnp.sum(BALL.inner(params["x"], r)) + jnp.sum(g["w"] ** 2))
        worst = {"x": BALL.expmap(params["x"], 0.1 * r / length), "w": params["w"] + 0.1 * g["w"] / length}
        sharp = jax.grad(loss)(worst, 0.7)
        return sharp, BALL.transp(worst["x"], params["x"], BALL.egrad2rgrad(worst["x"], sharp["x"]))

    sharp, carried = defined(params)
    assert float(value) == pytest.approx(float(loss(params, 0.7)), rel=1e-12)
    np.testing.assert_allclose(found["w"], sharp["w"], rtol=1e-10)
    np.testing.assert_allclose(BALL.egrad2rgrad(params["x"], found["x"]), carried, rtol=1e-9)


def test_it_finds_the_flat_minimum_where_plain_descent_stays_at_a_sharp_one():
    """A valley whose floor is a geodesic of minima, all of loss 0, whose walls are least steep at the origin."""

    def loss(x):
        along, across = 2 * BALL.logmap0(x)
        return (1 + 4 * along**2) * across**2

    tx = riemannian_sgd(0.05, manifolds=BALL)

    def along(value_and_grad):
        start = BALL.expmap0(jnp.array([0.4, 0.1]))

        def step(carry, _):
            x, state = carry
            updates, state = tx.update(value_and_grad(x)[1], state, x)
            return (optax.apply_updates(x, updates), state), None

        return jax.jit(lambda: 2 * BALL.logmap0(jax.lax.scan(step, (start, tx.init(start)), length=1500)[0][0]))()

    plain, aware = along(jax.value_and_grad(loss)), along(sharpness_aware(loss, 0.2, manifolds=BALL))
    assert abs(plain[1]) < 1e-9
    assert plain[0] > 0.5
    assert abs(aware[0]) < 0.05


def test_at_a_critical_point_all_stays_finite():
    value, grad = jax.jit(sharpness_aware(lambda x: BALL.dist2(jnp.zeros(2), x), manifolds=BALL))(jnp.zeros(2))
    assert value == 0
    np.testing.assert_array_equal(grad, np.zeros(2))
