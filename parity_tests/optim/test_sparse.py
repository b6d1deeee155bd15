"""The sparse optimizers against geoopt's: rows with duplicates, lazy moments, geoopt's AMSGrad, nothing else touched."""

from __future__ import annotations

from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from port_jax.manifolds import Euclidean, Lorentz, PoincareBall
from port_jax.optim import RowGradients, riemannian_adam, sparse_riemannian_adam, sparse_riemannian_sgd

ROWS, D, BATCH, STEPS = 12, 4, 6, 30
K = 0.6


def tables() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    space = rng.standard_normal((ROWS, D)) * 0.5
    lorentz = np.concatenate([np.sqrt(K + (space**2).sum(-1, keepdims=True)), space], -1)
    return {
        "ball": rng.standard_normal((ROWS, D)) * 0.3,
        "flat": rng.standard_normal((ROWS, D)),
        "hyperboloid": lorentz,
    }


MANIFOLDS = {"ball": PoincareBall(K), "flat": Euclidean(), "hyperboloid": Lorentz(K)}


def batches(points: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Row gradients and row numbers of each step; numbers repeat, and the last row is never touched."""
    rng = np.random.default_rng(1)
    return (
        {k: rng.standard_normal((STEPS, BATCH, p.shape[1])) for k, p in points.items()},
        rng.integers(0, ROWS - 1, (STEPS, BATCH)),
    )


def run_torch(optimizer: type, dtype: Any, nudge: float = 0.0, **options: Any) -> tuple[dict, dict]:
    points = tables()
    grads, indices = batches(points)
    kind = torch.tensor(np.zeros(0, dtype)).dtype
    spaces = {
        "ball": geoopt.Stereographic(torch.tensor(-K, dtype=kind)),
        "hyperboloid": geoopt.Lorentz(torch.tensor(K, dtype=kind)),
    }
    leaves = {}
    for k, p in points.items():
        tensor = torch.tensor((p + nudge * np.spacing(p.astype(dtype))).astype(dtype))
        leaves[k] = geoopt.ManifoldParameter(tensor, manifold=spaces[k]) if k in spaces else torch.nn.Parameter(tensor)
    opt = optimizer(list(leaves.values()), **options)
    for t in range(STEPS):
        for k, leaf in leaves.items():
            at, values = torch.tensor(indices[t])[None], torch.tensor(grads[k][t].astype(dtype))
            leaf.grad = torch.sparse_coo_tensor(at, values, leaf.shape, check_invariants=False)
        opt.step()
    state = {k: {n: v for n, v in opt.state[leaf].items() if n != "step"} for k, leaf in leaves.items()}
    return {k: leaf.detach().numpy() for k, leaf in leaves.items()}, state


def run_jax(tx: Any, dtype: Any) -> tuple[Any, Any]:
    points = tables()
    grads, indices = batches(points)
    params = {k: jnp.asarray(p, dtype) for k, p in points.items()}

    def step(carry: Any, xs: Any) -> Any:
        params, state = carry
        values, at = xs
        return tx.step(params, state, {k: RowGradients(at, v) for k, v in values.items()}), None

    feed = ({k: jnp.asarray(g, dtype) for k, g in grads.items()}, jnp.asarray(indices))
    return jax.jit(lambda p, x: jax.lax.scan(step, (p, tx.init(p)), x)[0])(params, feed)


CASES = {
    "adam": (geoopt.optim.SparseRiemannianAdam, {"lr": 0.05}, sparse_riemannian_adam(0.05, manifolds=MANIFOLDS)),
    "adam, amsgrad": (
        geoopt.optim.SparseRiemannianAdam,
        {"lr": 0.05, "betas": (0.8, 0.9), "eps": 1e-4, "amsgrad": True},
        sparse_riemannian_adam(0.05, 0.8, 0.9, 1e-4, amsgrad=True, manifolds=MANIFOLDS),
    ),
    "sgd": (geoopt.optim.SparseRiemannianSGD, {"lr": 0.02}, sparse_riemannian_sgd(0.02, manifolds=MANIFOLDS)),
    "sgd, momentum, dampening, stabilize": (
        geoopt.optim.SparseRiemannianSGD,
        {"lr": 0.02, "momentum": 0.8, "dampening": 0.2, "stabilize": 7},
        sparse_riemannian_sgd(0.02, 0.8, 0.2, stabilize=7, manifolds=MANIFOLDS),
    ),
    "sgd, nesterov": (
        geoopt.optim.SparseRiemannianSGD,
        {"lr": 0.02, "momentum": 0.7, "nesterov": True},
        sparse_riemannian_sgd(0.02, 0.7, nesterov=True, manifolds=MANIFOLDS),
    ),
}
FIELDS = {"exp_avg": "mu", "exp_avg_sq": "nu", "max_exp_avg_sq": "nu_max", "momentum_buffer": "momentum"}


@pytest.mark.parametrize("name", CASES)
def test_trajectories_equal_geoopt(name: str):
    optimizer, options, tx = CASES[name]
    want, want_state = run_torch(optimizer, np.float64, **options)
    have, have_state = run_jax(tx, np.float64)
    want32, _ = run_torch(optimizer, np.float32, **options)
    drift32, _ = run_torch(optimizer, np.float32, nudge=1.0, **options)
    have32, _ = run_jax(tx, np.float32)
    for k, start in tables().items():
        moved = np.abs(want[k] - start).max()
        assert np.abs(have[k] - want[k]).max() <= 1e-10 * moved, k
        own = np.abs(want32[k] - want[k]).max()
        gate = max(
            10 * np.abs(drift32[k] - want32[k]).max(), 2 * own + 4 * np.finfo(np.float32).eps * np.abs(start).max()
        )
        assert np.abs(have32[k] - want32[k]).max() <= gate, k
        assert have32[k].dtype == np.float32
        np.testing.assert_array_equal(have[k][-1], start[-1])
        for key, moment in want_state[k].items():
            found = getattr(have_state, FIELDS[key])[k]
            assert np.abs(found - moment.numpy()).max() <= 1e-10 * np.abs(moment.numpy()).max(), (k, key)


def test_amsgrad_is_geoopts_sparse_form_and_not_the_dense_one():
    table = jnp.asarray(tables()["ball"])
    sparse = sparse_riemannian_adam(0.1, amsgrad=True, manifolds=PoincareBall(K))
    dense = riemannian_adam(0.1, amsgrad=True, manifolds=PoincareBall(K))
    state, other = sparse.init(table), dense.init(table)
    moved = still = table
    for scale in (1.0, 0.1, 0.1):
        rows = RowGradients(jnp.arange(ROWS), scale * table)
        moved, state = sparse.step(moved, state, rows)
        updates, other = dense.update(scale * table, other, still)
        still = still + updates
    assert float(jnp.abs(state.nu_max - other.nu_max).max()) > 0.1


def test_padding_and_unsorted_duplicates_change_nothing():
    table = jnp.asarray(tables()["ball"])
    tx = sparse_riemannian_adam(0.1, manifolds=PoincareBall(K))
    g = jnp.asarray(np.random.default_rng(4).standard_normal((3, D)))
    plain, _ = tx.step(table, tx.init(table), RowGradients(jnp.array([2, 7]), jnp.stack([g[0] + g[2], g[1]])))
    padded = RowGradients(jnp.array([7, ROWS, 2, ROWS, 2]), jnp.stack([g[1], g[0], g[0], g[1], g[2]]))
    found, state = jax.jit(tx.step)(table, tx.init(table), padded)
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-15)
    assert int((state.nu > 0).sum()) == 2


def test_tables_are_updated_in_place_at_the_cost_of_the_rows():
    """The compiled step aliases each table to its result and holds no second one."""
    rows, n = 200_000, 8
    table = jnp.zeros((rows, D), jnp.float32)
    tx = sparse_riemannian_adam(0.1, manifolds=PoincareBall(K))
    grads = RowGradients(jnp.arange(n), jnp.ones((n, D), jnp.float32))
    compiled = jax.jit(tx.step, donate_argnums=(0, 1)).lower(table, tx.init(table), grads).compile()
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes >= rows * (2 * D + 1) * 4
    assert memory.temp_size_in_bytes < rows


@pytest.mark.parametrize(
    ("grads", "error", "message"),
    [
        (RowGradients(jnp.array([0, ROWS + 1]), jnp.ones((2, D))), IndexError, "index 13 of table is outside"),
        (RowGradients(jnp.array([-1, 0]), jnp.ones((2, D))), IndexError, "index -1 of table is outside"),
        (RowGradients(jnp.array([0.0, 1.0]), jnp.ones((2, D))), TypeError, "not integers"),
        (RowGradients(jnp.array([0, 1]), jnp.ones((2, D + 1))), ValueError, "row gradients of table have shapes"),
        (jnp.ones((ROWS, D)), TypeError, "sparse optimizers take RowGradients"),
    ],
)
def test_wrong_row_gradients_raise(grads: Any, error: type, message: str):
    params = {"table": jnp.asarray(tables()["ball"])}
    tx = sparse_riemannian_sgd(0.1, momentum=0.9, manifolds=PoincareBall(K))
    with pytest.raises(error, match=message):
        tx.step(params, tx.init(params), {"table": grads})
    with pytest.raises(ValueError, match="matrices whose rows are points"):
        tx.init({"table": jnp.zeros(3)})
