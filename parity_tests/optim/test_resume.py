"""A run stopped at any step, saved by Orbax and restored, goes on bit by bit; accumulation; no second compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from parity_tests import draws
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.optim import (
    RowGradients,
    from_torch,
    guard,
    riemannian_adam,
    riemannian_line_search,
    riemannian_ogd,
    riemannian_sgd,
    sparse_riemannian_adam,
    sparse_riemannian_sgd,
)
from port_jax.optim.clip import clip_grad_norm
from port_jax.optim.reduce_on_plateau import ReduceOnPlateau
from port_jax.optim.riemannian_adamw import riemannian_adamw
from port_jax.optim.schedules import cosine_annealing_lr, one_cycle_momentum
from port_jax.optim.weight_average import weight_average

MANIFOLDS = {"layer": {"kernel": Euclidean()}, "points": PoincareBall(1.2)}
PARAMS = {
    "layer": {"kernel": jnp.asarray(draws.rng(0).normal(size=(3, 2)))},
    "points": jnp.asarray(0.2 * draws.rng(1).normal(size=(4, 3))),
}
STEPS = 9


def grads(step):
    rng = draws.rng(step)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), PARAMS)


def plateau():
    adam = optax.inject_hyperparams(riemannian_adam, static_args=("manifolds", "order"))
    return adam(ReduceOnPlateau(0.1, patience=1, factor=0.5), b1=one_cycle_momentum(20), manifolds=MANIFOLDS)


def grouped():
    state = {
        "param_groups": [
            {
                "lr": 0.05,
                "betas": (0.8, 0.9),
                "eps": 1e-8,
                "weight_decay": 0.1,
                "amsgrad": True,
                "stabilize": 2,
                "params": [1],
            },
            {
                "lr": 0.02,
                "betas": (0.9, 0.99),
                "eps": 1e-8,
                "weight_decay": 0.0,
                "amsgrad": False,
                "stabilize": None,
                "params": [0],
            },
        ]
    }
    names = ["points", "layer/kernel"]
    plan = {"name": "ReduceLROnPlateau", "patience": 1, "factor": 0.5}
    return from_torch(state, params=PARAMS, names=names, manifolds=MANIFOLDS, scheduler_state=plan)[0]


def searching():
    """The line search, on a function of its own; the random gradients are not used."""
    tx = riemannian_line_search("wolfe", cg_method="pr", manifolds=MANIFOLDS)

    def fn(params):
        return sum(jnp.sum(jnp.cosh(3 * (p - 0.1))) for p in jax.tree.leaves(params))

    def update(_, state, params, *, value):
        return tx.update(jax.grad(fn)(params), state, params, value_fn=fn)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def sparse(tx):
    """Steps of the first two rows of each table, as updates."""

    def update(grads, state, params, *, value):
        rows = jax.tree.map(lambda g: RowGradients(jnp.array([1, 0]), g[:2]), grads)
        moved, state = tx.step(params, state, rows)
        return jax.tree.map(jnp.subtract, moved, params), state

    return optax.GradientTransformationExtraArgs(tx.init, update)


CASES = {
    "adam": lambda: riemannian_adam(cosine_annealing_lr(0.1, 5), amsgrad=True, stabilize=4, manifolds=MANIFOLDS),
    "sgd": lambda: riemannian_sgd(0.05, 0.9, stabilize=3, manifolds=MANIFOLDS),
    "adamw": lambda: riemannian_adamw(0.05, weight_decay=0.2, manifolds=MANIFOLDS),
    "plateau": plateau,
    "groups": grouped,
    "line search": searching,
    "sparse adam": lambda: sparse(sparse_riemannian_adam(0.05, amsgrad=True, stabilize=4, manifolds=MANIFOLDS)),
    "sparse sgd": lambda: sparse(sparse_riemannian_sgd(0.05, 0.9, manifolds=MANIFOLDS)),
    "optimistic": lambda: riemannian_ogd(0.05, manifolds=MANIFOLDS, ascend={"layer": True, "points": False}),
    "guarded": lambda: guard(riemannian_adam(0.05, manifolds=MANIFOLDS), "skip"),
    "clipped, accumulated": lambda: optax.MultiSteps(optax.chain(clip_grad_norm(0.5), riemannian_adam(0.05, manifolds=MANIFOLDS)), 2),
}


def stepper(tx):
    update = optax.with_extra_args_support(tx).update if isinstance(tx, optax.GradientTransformation) else tx.update

    @jax.jit
    def step(params, state, g, value):
        updates, state = update(g, state, params, value=value)
        return optax.apply_updates(params, updates), state

    return step


@pytest.mark.parametrize("name", CASES)
def test_a_restored_run_goes_on_bit_by_bit(name, tmp_path):
    tx = CASES[name]()
    step = stepper(tx)
    # bound to their device, as restored arrays are: one signature, and one compilation
    params, state = jax.device_put((PARAMS, tx.init(PARAMS)), jax.devices()[0])
    seen = [(params, state)]
    for n in range(STEPS):
        params, state = step(params, state, grads(n), jnp.asarray(float(n % 3)))
        seen.append((params, state))
    assert step._cache_size() <= 1  # 0 where a long process has given it up
    with ocp.StandardCheckpointer() as checkpointer:
        for n in (1, 5):
            checkpointer.save(tmp_path / str(n), seen[n])
        checkpointer.wait_until_finished()
        for n in (1, 5):
            like = jax.tree.map(ocp.utils.to_shape_dtype_struct, (PARAMS, tx.init(PARAMS)))
            restored = checkpointer.restore(tmp_path / str(n), like)
            assert jax.tree.structure(restored) == jax.tree.structure(seen[n])
            for m in range(n, STEPS):
                restored = step(*restored, grads(m), jnp.asarray(float(m % 3)))
                jax.tree.map(np.testing.assert_array_equal, restored, seen[m + 1])
    assert step._cache_size() <= 1


def test_accumulated_gradients_make_the_step_of_their_mean():
    """Each k-th update is the one with the mean gradient; between them nothing moves and no count goes on."""
    inner = riemannian_adam(0.1, manifolds=MANIFOLDS)
    tx = optax.MultiSteps(inner, 3)
    params, state, update = PARAMS, tx.init(PARAMS), jax.jit(tx.update)
    for n in range(3):
        updates, state = update(grads(n), state, params)
        if n < 2:
            assert not any(np.any(u) for u in jax.tree.leaves(updates))
    mean = jax.tree.map(lambda *g: sum(g) / 3, *[grads(n) for n in range(3)])
    expected, _ = jax.jit(inner.update)(mean, inner.init(PARAMS), PARAMS)
    # optax divides by the count in float32
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-8), updates, expected)
    assert {int(c) for c in jax.tree.leaves(state.inner_opt_state.count)} == {1}


def test_the_average_of_weights_is_saved_too(tmp_path):
    tx = weight_average(0.9, manifolds=MANIFOLDS)
    update = jax.jit(tx.update)
    state = update(jax.tree.map(lambda p: 0.5 * p, PARAMS), update(PARAMS, tx.init(PARAMS)))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "average", state)
        checkpointer.wait_until_finished()
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        jax.tree.map(np.testing.assert_array_equal, checkpointer.restore(tmp_path / "average", like), state)
