"""Several parameter groups as one transformation: settings of their own, and points that follow a curvature of an earlier group."""

import itertools

import geoopt
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.optim import lr_scheduler

from parity_tests import draws
from parity_tests.optim.from_torch.runs import (
    AFTER,
    BEFORE,
    MANIFOLDS,
    START,
    Reference,
    as_params,
    assert_same_path,
    go_on,
    plain,
)
from port_jax.manifolds import Euclidean, Stereographic
from port_jax.optim import from_torch
from reference_torch.optim.riemannian_adam import RiemannianAdam

GROUPED = {
    "RiemannianAdam": lambda p: RiemannianAdam(
        [
            {"params": [p[2]], "weight_decay": 0.0, "lr": 0.01},
            {"params": [p[0], p[1]], "betas": (0.7, 0.9), "weight_decay": 0.2, "stabilize": 3},
        ],
        lr=0.04,
    ),
    "AdamW": lambda p: torch.optim.AdamW(
        [{"params": [p[1]], "weight_decay": 0.5}, {"params": [p[2]], "lr": 0.02, "amsgrad": True, "decoupled_weight_decay": False}],
        lr=0.04,
        weight_decay=0.3,
    ),
}


@pytest.mark.parametrize(("name", "scheduled"), itertools.product(GROUPED, [False, True]))
def test_groups_keep_their_own_settings(name, scheduled):
    """In the second case `points` is in no group and stays."""
    run = Reference(GROUPED[name], (lambda o: lr_scheduler.StepLR(o, 4, 0.5)) if scheduled else None, ball=name == "RiemannianAdam")
    start = run.run(BEFORE)
    names = ["layer/bias", "points", "layer/kernel"] if name == "RiemannianAdam" else ["layer/kernel", "layer/bias"]
    tx, state = from_torch(
        plain(run.optimizer.state_dict()),
        params=as_params(start),
        names=names,
        manifolds=MANIFOLDS,
        scheduler_state=plain(run.scheduler.state_dict()) if scheduled else None,
    )
    found, _ = go_on(tx, state, start, BEFORE, AFTER)
    expected = run.run(AFTER)
    if name == "AdamW":
        assert np.array_equal(found[0], start[0])
        found, expected, start = found[1:], expected[1:], start[1:]
    assert_same_path(found, expected, start)


def test_points_follow_a_curvature_of_an_earlier_group():
    manifold = geoopt.Stereographic(torch.tensor(-0.8, dtype=torch.float64), learnable=True)
    point = geoopt.ManifoldParameter(torch.tensor(START["points"]), manifold=manifold)
    optimizer = RiemannianAdam([{"params": [manifold.k], "lr": 0.05}, {"params": [point]}], lr=0.02)
    rng = draws.rng(8)
    grads = [(rng.normal(), rng.normal(size=(5, 3))) for _ in range(12)]

    def move(some):
        for a, b in some:
            manifold.k.grad, point.grad = torch.tensor(a, dtype=torch.float64), torch.tensor(b)
            optimizer.step()

    def current():
        return {"k": jnp.asarray(manifold.k.detach().numpy().copy()), "x": jnp.asarray(point.detach().numpy().copy())}

    move(grads[:5])
    params = current()
    tx, state = from_torch(
        plain(optimizer.state_dict()),
        params=params,
        names=["k", "x"],
        manifolds=lambda p: {"k": Euclidean(), "x": Stereographic(p["k"])},
    )
    for a, b in grads[5:]:
        updates, state = tx.update({"k": jnp.asarray(a), "x": jnp.asarray(b)}, state, params)
        params = optax.apply_updates(params, updates)
    move(grads[5:])
    np.testing.assert_allclose(params["k"], current()["k"], rtol=1e-12)
    np.testing.assert_allclose(params["x"], current()["x"], rtol=0, atol=1e-11)
