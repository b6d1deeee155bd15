"""Small problems to train on: points of a ball drawn to targets, under Riemannian Adam, with noise from the key; and counting."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from parity_tests import draws
from port_jax.manifolds import PoincareBall
from port_jax.optim import riemannian_adam
from port_jax.training import TrainState, fit, gradient_step, train_state

BALL = PoincareBall(0.7)
LONG = 160
"""Steps of the run that is killed: at a checkpoint every five, it has not ended when it is."""
exp0, dist = jax.jit(BALL.expmap0), jax.jit(BALL.dist)


def problem():
    """Targets on the ball."""
    return exp0(draws.rng(0).standard_normal((20, 3)) * 0.5)


def loss(params, batch, key):
    """Mean squared distance to the targets, of points blurred a little."""
    noise = 1 + 0.01 * jax.random.normal(key, params["points"].shape, params["points"].dtype)
    return jnp.mean(BALL.dist2(params["points"] * noise, batch))


def optimizer():
    return riemannian_adam(0.02, manifolds={"points": BALL}, stabilize=10)


def start():
    points = exp0(draws.rng(1).standard_normal((20, 3)) * 0.5)
    return train_state({"points": points}, optimizer(), draws.key(3))


def evaluate(params):
    return {"near": float(jnp.mean(dist(params["points"], problem())))}


step = gradient_step(loss, optimizer())


def count(state, batch):
    """A step that adds one to every parameter: the state of any step is known, and compiles at once."""
    return state._replace(params=jax.tree.map(lambda x: x + 1, state.params), step=state.step + 1), {"loss": jnp.zeros(())}


def counting(**params):
    """Zeros to count from."""
    return TrainState(params or {"w": jnp.zeros(2)}, (), jnp.zeros((), jnp.int32), draws.key(0))


def same(a, b):
    """Asserts that two trees are equal to the bit, their types and keys included."""

    def compare(x, y):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)

    jax.tree.map(compare, a, b)


def same_run(a, b):
    """Asserts that two runs ended in the same state, best, and history."""
    same((a.state, a.best, a.best_collections), (b.state, b.best, b.best_collections))
    assert (a.best_step, a.stopped, a.history) == (b.best_step, b.stopped, b.history)


def run(folder: str) -> None:
    """`LONG` steps with a checkpoint every five; says when there is one. For a test that kills it."""
    jax.config.update("jax_enable_x64", True)
    said = []

    def speaking(params):
        if not said and any(Path(folder).glob("checkpoints/[1-9]*")):
            said.append(print("begun", flush=True))
        return evaluate(params)

    fit(step, start(), steps=LONG, batch=problem(), chunk=5, evaluate=speaking, every=5, monitor="near", mode="min", folder=folder)
