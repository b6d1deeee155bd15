"""Points and weights in half precision: they move in float32, stay on their manifold, and their second moments do not vanish."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import port_jax.manifolds as pm
from parity_tests import draws, slow
from parity_tests.optim.spaces import SPACES
from port_jax import optim

HALF = (jnp.bfloat16, jnp.float16)
OPTIMIZERS: dict[str, Any] = {
    "adam": lambda manifold: optim.riemannian_adam(0.05, weight_decay=1e-2, amsgrad=True, stabilize=2, manifolds=manifold),
    "adamw": lambda manifold: optim.riemannian_adamw(0.05, weight_decay=0.1, manifolds=manifold),
    "sgd": lambda manifold: optim.riemannian_sgd(0.02, momentum=0.9, stabilize=2, manifolds=manifold),
    "ogd": lambda manifold: optim.riemannian_ogd(0.02, manifolds=manifold),
    "line search": lambda manifold: optim.riemannian_line_search(manifolds=manifold),
}
KEPT = {
    ("PoincareBall", "adam", jnp.bfloat16),
    ("PoincareBall", "adamw", jnp.float16),
    ("SymmetricPositiveDefinite", "adam", jnp.bfloat16),
    ("Lorentz", "sgd", jnp.float16),
    ("Euclidean", "line search", jnp.bfloat16),
}
REAL = [name for name, space in SPACES.items() if not np.iscomplexobj(space.start)]
ROUNDINGS = 4
"""Of half precision in a step, relative to the coordinates: of the point before it, of the update, of the sum, and of the momentum."""


def trajectory(tx: Any, start: Any, grads: np.ndarray) -> Any:
    """The points and the state after the steps of the gradients; `value_fn` is linear with them as its slopes."""
    params, state = start, tx.init(start)

    @jax.jit
    def step(params: Any, state: Any, grad: Any) -> Any:
        value = lambda p: jnp.sum((p * grad).astype(jnp.float32))  # noqa: E731
        extra = {"value_fn": value} if isinstance(tx, optax.GradientTransformationExtraArgs) else {}
        updates, state = tx.update(grad, state, params, **extra)
        return optax.apply_updates(params, updates), state

    for grad in grads:
        params, state = step(params, state, jnp.asarray(grad, start.dtype))
    return params, state


def transports(manifold: Any) -> bool:
    """Whether a step of OGD is possible: an exponential map and a transport between points, on every factor."""
    return all(m.has("expmap", "transp") for m in getattr(manifold, "manifolds", [manifold]))


def cases() -> list[tuple[str, str, Any]]:
    found = []
    for name in REAL:
        for kind in OPTIMIZERS:
            if (kind == "adamw" and not SPACES[name].decays) or (kind == "ogd" and not transports(SPACES[name].of_port(np.float32))):
                continue
            found += [(name, kind, dtype) for dtype in HALF]
    return found


@pytest.mark.parametrize(("name", "kind", "dtype"), slow.all_but(KEPT, cases()))
def test_steps_are_those_of_single_precision_rounded(name: str, kind: str, dtype: Any):
    space = SPACES[name].table()
    manifold = space.of_port(np.float32)
    start = manifold.narrowed(jnp.asarray(space.start, jnp.float32), dtype)
    steps = 3
    grads = 0.1 * draws.rng(1).standard_normal((steps, *start.shape))
    grads = np.asarray(jnp.asarray(grads, dtype), np.float64)
    tx = OPTIMIZERS[kind](manifold)
    have, state = trajectory(tx, start, grads)
    want, _ = trajectory(tx, start.astype(jnp.float32), grads)
    assert have.dtype == dtype
    assert all(np.isfinite(np.asarray(leaf, float)).all() for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating))
    # an update is a difference of coordinates, which rounds by those of the point before it
    longest = float(max(jnp.abs(x.astype(jnp.float32)).max() for x in (start, have)))
    room = {"atol": 4 * float(jnp.finfo(dtype).eps) * longest * longest} if isinstance(manifold, pm.Lorentz) else {}
    assert manifold.check_point_on_manifold(have, **room)
    if isinstance(manifold, pm.PoincareBall):
        assert not np.isnan(manifold.dist0(have.astype(jnp.float32))).any()
    eps, size = float(jnp.finfo(dtype).eps), float(jnp.abs(want).max())
    assert float(jnp.abs(have.astype(jnp.float32) - want).max()) <= steps * ROUNDINGS * eps * size


@pytest.mark.parametrize(
    ("dtype", "grads"),
    [(jnp.float16, np.full(100, 1e-3)), (jnp.bfloat16, np.concatenate([[1.0], np.full(400, 0.01)]))],
    ids=["small gradients in float16", "one large gradient in bfloat16"],
)
@pytest.mark.parametrize("make", [optim.riemannian_adam, optim.sparse_riemannian_adam], ids=["dense", "sparse"])
def test_second_moments_are_kept_in_single_precision(make: Any, dtype: Any, grads: np.ndarray):
    """In half precision the first underflow to 0, for steps 18 times too long, and the second never decay, for 0.4 of the right ones."""
    tx, found = make(1e-3, b2=0.99, manifolds=pm.Euclidean()), []
    for kind in (dtype, jnp.float32):
        start = jnp.zeros((1, 4), kind)
        slopes = jnp.broadcast_to(jnp.asarray(grads, kind)[:, None, None], (len(grads), 1, 4))
        if make is optim.riemannian_adam:
            state, updates = jax.lax.scan(lambda s, g, p=start: tx.update(g, s, p)[::-1], tx.init(start), slopes)
            last = updates[-1]
        else:
            rows = optim.RowGradients(jnp.zeros((len(grads), 1), jnp.int32), slopes)
            last = jax.lax.scan(lambda s, g, t=start: tx.step(t, s, g)[::-1], tx.init(start), rows)
            state, last = last[0], last[1][-1]
        assert state.nu.dtype == jnp.float32
        found.append(float(last[0, 0]))
    # the first moment is rounded in each of the 1/(1 - b1) = 10 steps that it remembers, by half an eps
    assert found[0] == pytest.approx(found[1], rel=6 * float(jnp.finfo(dtype).eps))


@pytest.mark.slow  # as the second moments
def test_averages_do_not_stand_still():
    """A share of 1/1000 of the difference is below the rounding of bfloat16."""
    ball = pm.PoincareBall(0.7)
    average = optim.weight_average(0.999, manifolds=ball)
    first, second = (jnp.asarray([[x, 0.1]], jnp.bfloat16) for x in (0.25, 0.75))
    state = average.update(first, average.init(first))
    state = jax.lax.fori_loop(0, 500, lambda _, s: average.update(second, s), state)
    assert state.average.dtype == jnp.float32
    share = float(
        ball.dist(state.average, first.astype(jnp.float32))[0] / ball.dist(first.astype(jnp.float32), second.astype(jnp.float32))[0]
    )
    assert share == pytest.approx(1 - 0.999**500, rel=1e-3)


def test_rows_that_repeat_are_summed_in_single_precision():
    table, rows = jnp.zeros((40, 2), jnp.bfloat16), jnp.zeros(4096, jnp.int32)
    tx = optim.sparse_riemannian_sgd(2.0**-12, manifolds=pm.Euclidean())
    moved, _ = tx.step(table, tx.init(table), optim.RowGradients(rows, jnp.ones((4096, 2), jnp.bfloat16)))
    assert float(moved[0, 0]) == -1


def test_parameters_that_are_no_arrays_are_refused_by_name():
    for make in (optim.riemannian_adam, optim.riemannian_sgd):
        for value, says in ((torch.zeros(3), "parameter w is a torch.Tensor"), (0.5, "parameter w is a builtins.float")):
            with pytest.raises(TypeError, match=says):
                make(1e-2, manifolds={"w": pm.Euclidean()}).init({"w": value})
    params = {"w": jnp.zeros(3, jnp.float32)}
    tx = optim.riemannian_sgd(1.0, manifolds=pm.Euclidean())
    for grad in (np.array([1, 2, 3]), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 2, 3])):
        updates, _ = tx.update({"w": grad}, tx.init(params), params)
        assert updates["w"].tolist() == [-1, -2, -3]
        assert updates["w"].dtype == jnp.float32
    with pytest.raises(TypeError, match=r"gradient of w is a torch\.Tensor.*detach"):
        tx.update({"w": torch.ones(3, requires_grad=True)}, tx.init(params), params)


def test_decay_towards_the_origin_is_in_single_precision():
    """In float16 the logarithm and the transport of a point far from the origin overflow, and the first step is NaN."""
    manifold, moved = pm.SphereProjection(1.0), []
    start = jnp.zeros((1, 5), jnp.float16).at[0, 1].set(25.0)
    for dtype in (jnp.float16, jnp.float32):
        tx, point = optim.riemannian_adamw(2e-2, manifolds=manifold), start.astype(dtype)
        updates, state = jax.jit(tx.update)(jnp.ones_like(point), tx.init(point), point)
        assert state.mu.dtype == dtype
        moved.append(np.asarray(point + updates, float))
    np.testing.assert_allclose(*moved, rtol=0, atol=4 * float(jnp.finfo(jnp.float16).eps) * np.abs(moved[1]).max())
