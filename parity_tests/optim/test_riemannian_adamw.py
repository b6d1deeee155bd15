"""riemannian_adamw: its definition by geoopt's operations, torch's AdamW on flat space, and where L2 decay fails."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity_tests import draws
from parity_tests.optim.option_table import Row, cases
from parity_tests.optim.trajectories import compare, part
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, ProductManifold, Scaled, Sphere
from port_jax.manifolds.stiefel import CanonicalStiefel
from port_jax.optim.riemannian_adam import riemannian_adam
from port_jax.optim.riemannian_adamw import riemannian_adamw
from reference_torch.optim.riemannian_adamw import AdamW


@cases("AdamW", kept=("lr 0.01, betas (0.8, 0.95), eps 0.001, weight_decay 0.3",))
def test_trajectories_equal_the_definition_by_geoopts_operations(row: Row):
    _, wrong = compare(row, *part(row))
    assert not wrong, "\n".join(wrong)


def test_flat_is_adamw_of_torch():
    rng = draws.rng(0)
    start, grads = rng.normal(size=(3, 4)), rng.normal(size=(30, 3, 4))
    theirs = torch.nn.Parameter(torch.tensor(start))
    optimizer = AdamW([theirs], 0.05, (0.8, 0.95), 1e-4, 0.3, amsgrad=True)
    tx = riemannian_adamw(0.05, 0.8, 0.95, 1e-4, 0.3, amsgrad=True, manifolds=Euclidean())
    ours, state, move = jnp.asarray(start), tx.init(jnp.asarray(start)), jax.jit(tx.update)
    for g in grads:
        theirs.grad = torch.tensor(g)
        optimizer.step()
        updates, state = move(jnp.asarray(g), state, ours)
        ours = optax.apply_updates(ours, updates)
    expected = theirs.detach().numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12 * np.abs(expected - start).max())
    assert move._cache_size() <= 1  # 0 where a long process has given it up


@pytest.mark.parametrize("manifold", [PoincareBall(0.6), Lorentz(1.8)], ids=["ball", "lorentz"])
def test_decay_contracts_the_distance_to_the_origin(manifold):
    tangent = draws.rng(1).normal(size=(5, 4))
    if isinstance(manifold, Lorentz):
        tangent[:, 0] = 0
    tx = riemannian_adamw(0.1, weight_decay=0.7, manifolds=manifold)

    @jax.jit
    def contracted(tangent, grad):
        x = manifold.expmap0(tangent)
        updates, state = tx.update(grad, tx.init(x), x)
        return [(manifold.dist0(p), manifold.logmap0(p)) for p in (x, optax.apply_updates(x, updates))], state

    (before, after), state = contracted(tangent, np.zeros_like(tangent))
    np.testing.assert_allclose(after[0], 0.93 * before[0], rtol=1e-9)
    # along the geodesic: the directions agree
    np.testing.assert_allclose(after[1], 0.93 * before[1], rtol=1e-8, atol=1e-12)
    assert int(state.count) == 1


def test_moments_follow_the_point():
    """A step with decay is the step without, from the contracted point with the carried gradient and momentum."""
    ball = PoincareBall(1.4)
    rng = draws.rng(2)
    x, g = ball.expmap0(0.3 * jnp.asarray(rng.normal(size=(4, 3)))), jnp.asarray(rng.normal(size=(4, 3)))
    tx = riemannian_adamw(0.05, weight_decay=2.0, manifolds=ball)
    updates, state = tx.update(g, tx.init(x), x)
    q = ball.expmap0(0.9 * ball.logmap0(x))
    r = ball.transp(x, q, ball.egrad2rgrad(x, g))
    unit = r / ball.norm(q, r, keepdim=True)
    expected, m = ball.retr_transp(q, -0.05 * unit, 0.1 * r)
    # Adam's epsilon is 1e-8, the length of r about 1
    np.testing.assert_allclose(x + updates, expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(state.mu, m, rtol=0, atol=1e-8)
    x, m = x + updates, state.mu
    updates, state = tx.update(0.3 * g, state, x)
    q = ball.expmap0(0.9 * ball.logmap0(x))
    m = 0.9 * ball.transp(x, q, m) + 0.1 * ball.transp(x, q, ball.egrad2rgrad(x, 0.3 * g))
    np.testing.assert_allclose(state.mu, ball.transp(q, x + updates, m), rtol=1e-8)


def run(tx, x, grad, steps):
    def step(carry, _):
        x, state = carry
        updates, state = tx.update(grad(x), state, x)
        return (optax.apply_updates(x, updates), state), None

    return jax.jit(lambda: jax.lax.scan(step, (x, tx.init(x)), length=steps)[0][0])()


def test_it_settles_where_l2_does_not():
    """A loss that falls for ever towards one side, at a constant slope: the height over a horoball.

    Adam's step has length learning_rate; decoupled decay balances it at the distance 1 / weight_decay. The L2 term is
    weighed by the inverse metric, so it vanishes before the boundary, and the points end there.
    """
    ball, side = PoincareBall(1.0), jnp.array([0.6, 0.8])

    def height(x):
        return jnp.log(jnp.sum((side - x) ** 2)) - jnp.log1p(-jnp.sum(x**2))

    start = jnp.array([0.1, -0.2])
    settled = run(riemannian_adamw(0.02, weight_decay=0.5, manifolds=ball), start, jax.grad(height), 3000)
    assert float(ball.dist0(settled)) == pytest.approx(2.0, rel=0.02)
    np.testing.assert_allclose(settled / jnp.linalg.norm(settled), side, atol=1e-3)
    with_l2 = run(riemannian_adam(0.02, weight_decay=0.5, manifolds=ball), start, jax.grad(height), 3000)
    assert float(jnp.linalg.norm(with_l2)) > 1 - 2e-5


@pytest.mark.slow  # as its other errors
def test_what_has_no_origin_has_to_say_it_does_not_decay():
    params = {"frame": jnp.eye(3, 2), "flat": jnp.ones(3)}
    manifolds = {"frame": CanonicalStiefel(), "flat": Euclidean()}
    with pytest.raises(NotImplementedError, match=r"parameter frame cannot decay .* set decays to False"):
        riemannian_adamw(manifolds=manifolds).init(params)
    # A sphere's origin is a choice: decay would pull points to one axis of the coordinates.
    for round_one in (Sphere(), Scaled(Sphere(), 2.0), ProductManifold((Sphere(), 2), (Euclidean(), ()))):
        with pytest.raises(NotImplementedError, match=r"one of many equal points; set decays to False"):
            riemannian_adamw(manifolds=round_one).init(jnp.eye(3))
    tx = riemannian_adamw(0.1, weight_decay=0.5, manifolds=manifolds, decays={"frame": False, "flat": True})
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["flat"], -0.05)
    np.testing.assert_allclose(updates["frame"], 0, atol=1e-15)
