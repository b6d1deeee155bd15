"""Mixed precision: bfloat16 weights to compute with, float32 points that stay on their manifold."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from parity_tests import draws
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.optim.precision import compute_copy
from port_jax.optim.riemannian_adam import riemannian_adam

C = 1.4
MANIFOLDS = {"points": PoincareBall(C), "kernel": Euclidean()}


def test_points_stay_in_the_ball_and_types_stay_float32():
    with jax.enable_x64(False):
        rng = draws.rng(0)
        start = rng.normal(size=(16, 4))
        start *= 0.9 / np.sqrt(C) / np.linalg.norm(start, axis=-1, keepdims=True)
        params = {
            "points": jnp.asarray(start, jnp.float32),
            "kernel": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32),
        }
        features = jnp.asarray(rng.normal(size=(16, 3)), jnp.bfloat16)
        tx = riemannian_adam(0.05, manifolds=MANIFOLDS)

        def loss(params):
            half = compute_copy(params, manifolds=MANIFOLDS)
            assert half["kernel"].dtype == jnp.bfloat16
            assert half["points"].dtype == jnp.float32
            score = (half["points"].astype(jnp.bfloat16) @ half["kernel"]) * features
            return -jnp.sum(score.astype(jnp.float32))  # drives the points outwards

        @jax.jit
        def step(params, state):
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value

        state = tx.init(params)
        values = []
        for _ in range(200):
            params, state, value = step(params, state)
            values.append(float(value))
        assert {leaf.dtype for leaf in jax.tree.leaves((params, state.mu, state.nu))} == {jnp.dtype("float32")}
        radius = np.linalg.norm(np.asarray(params["points"], np.float64), axis=-1) * np.sqrt(C)
        # the ball of float32 ends at 1 - 4e-3
        assert radius.max() <= 1 - 4e-3 + 1e-6
        assert radius.max() > 0.99
        assert values[-1] < values[0]
        # what would happen to the points in bfloat16
        rounded = np.asarray(params["points"].astype(jnp.bfloat16), np.float64)
        assert (np.linalg.norm(rounded, axis=-1) * np.sqrt(C)).max() > 1 - 4e-3
