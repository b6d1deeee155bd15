"""guard: what NaN and infinite gradients do under each choice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.optim.guard import guard
from port_jax.optim.riemannian_adam import riemannian_adam

PARAMS = {"flat": jnp.array([0.3, -0.2]), "points": jnp.array([[0.1, 0.2], [-0.3, 0.4]])}
MANIFOLDS = {"flat": Euclidean(), "points": PoincareBall(1.3)}
GOOD = {"flat": jnp.array([0.5, 1.0]), "points": jnp.array([[0.3, -0.7], [0.2, 0.1]])}
BAD = {"flat": jnp.array([0.5, 1.0]), "points": jnp.array([[0.3, jnp.nan], [jnp.inf, 0.1]])}


def made(choice):
    tx = guard(riemannian_adam(0.1, manifolds=MANIFOLDS), choice)
    return tx, tx.init(PARAMS)


def test_pass_hands_them_on():
    tx, state = made("pass")
    updates, _ = jax.jit(tx.update)(BAD, state, PARAMS)
    assert np.isnan(updates["points"][0]).all()
    assert np.isnan(updates["points"][1, 0])
    assert np.isfinite(updates["flat"]).all()


def test_skip_leaves_parameters_and_state():
    tx, state = made("skip")
    move = jax.jit(tx.update)
    updates, after = move(BAD, state, PARAMS)
    assert all(not np.any(u) for u in jax.tree.leaves(updates))
    jax.tree.map(np.testing.assert_array_equal, after.inner_state, state.inner_state)
    again, _ = move(GOOD, after, PARAMS)
    plain, _ = move(GOOD, state, PARAMS)
    jax.tree.map(np.testing.assert_array_equal, again, plain)
    assert move._cache_size() <= 1  # 0 where a long process has given it up


def test_raise_names_the_parameter():
    tx, state = made("raise")
    with pytest.raises(FloatingPointError, match=r"points \(2 entries\); look for the cause"):
        tx.update(BAD, state, PARAMS)
    move = jax.jit(tx.update)
    updates, _ = move(GOOD, state, PARAMS)
    plain, _ = riemannian_adam(0.1, manifolds=MANIFOLDS).update(GOOD, state, PARAMS)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12), updates, plain)

    def finish():
        jax.block_until_ready(move(BAD, state, PARAMS))
        jax.effects_barrier()

    with pytest.raises(jax.errors.JaxRuntimeError, match=r"points \(2 entries\)"):
        finish()


def test_another_choice_is_refused():
    with pytest.raises(ValueError, match="'pass', 'skip' or 'raise'"):
        made("ignore")
