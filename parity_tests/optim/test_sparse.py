"""The sparse optimizers against geoopt's: rows with duplicates, lazy moments, geoopt's AMSGrad, nothing else touched."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws, slow
from parity_tests.optim.option_table import Row, cases
from parity_tests.optim.trajectories import compare, part
from port_jax.manifolds import Lorentz, PoincareBall
from port_jax.optim import RowGradients, riemannian_adam, sparse_riemannian_adam, sparse_riemannian_sgd, sparse_rows

ROWS, D = 12, 4
K = 0.6


def points() -> np.ndarray:
    """Rows inside the ball of curvature -K."""
    return draws.rng(0).standard_normal((ROWS, D)) * 0.3


@cases(
    "SparseAdam",
    "SparseSGD",
    kept=("lr 0.01, betas (0.8, 0.95), eps 0.001", "lr 0.0005, momentum 0.9, dampening 0.3, stabilize 4"),
)
def test_trajectories_equal_geoopt(row: Row):
    """Points and moments of every row, touched or not; on some manifolds, as for the dense optimizers."""
    _, wrong = compare(row, *part(row))
    assert not wrong, "\n".join(wrong)


def test_amsgrad_is_geoopts_sparse_form_and_not_the_dense_one():
    table = jnp.asarray(points())
    sparse = sparse_riemannian_adam(0.1, amsgrad=True, manifolds=PoincareBall(K))
    dense = riemannian_adam(0.1, amsgrad=True, manifolds=PoincareBall(K))
    state, other = sparse.init(table), dense.init(table)
    moved = still = table

    @jax.jit
    def both(grad, moved, state, still, other):
        moved, state = sparse.step(moved, state, RowGradients(jnp.arange(ROWS), grad))
        updates, other = dense.update(grad, other, still)
        return moved, state, still + updates, other

    for scale in (1.0, 0.1, 0.1):
        moved, state, still, other = both(scale * table, moved, state, still, other)
    assert float(jnp.abs(state.nu_max - other.nu_max).max()) > 0.1


def test_padding_and_unsorted_duplicates_change_nothing():
    table = jnp.asarray(points())
    tx = sparse_riemannian_adam(0.1, manifolds=PoincareBall(K))
    g = jnp.asarray(draws.rng(4).standard_normal((3, D)))
    plain, _ = jax.jit(tx.step)(table, tx.init(table), RowGradients(jnp.array([2, 7]), jnp.stack([g[0] + g[2], g[1]])))
    padded = RowGradients(jnp.array([7, ROWS, 2, ROWS, 2]), jnp.stack([g[1], g[0], g[0], g[1], g[2]]))
    found, state = jax.jit(tx.step)(table, tx.init(table), padded)
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-15)
    assert int((state.nu > 0).sum()) == 2


def test_a_crowded_table_is_summed_whole_with_the_same_numbers(monkeypatch: pytest.MonkeyPatch):
    """Up to `CROWDED` rows of the table for each row of the batch it is not sorted: the same numbers, padding and repeats included.

    They are two programs, which XLA fuses otherwise, so that a product and a sum are rounded once here and twice there.
    """
    rng = draws.rng(5)
    table = jnp.asarray(0.1 * rng.standard_normal((40, D)))
    batch = RowGradients(jnp.asarray(rng.integers(0, 41, 25)), jnp.asarray(rng.standard_normal((25, D))))
    tx = sparse_riemannian_adam(0.1, amsgrad=True, manifolds=PoincareBall(K))

    def after(most: int) -> Any:
        monkeypatch.setattr(sparse_rows, "CROWDED", most)
        table_, state = jax.jit(lambda t, s, g: tx.step(t, s, g))(table, tx.init(table), batch)
        return jax.jit(lambda t, s, g: tx.step(t, s, g))(table_, state, batch._replace(indices=batch.indices[::-1]))

    whole, sorted_ = after(2), after(1)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(sorted_), strict=True):
        assert np.abs(np.asarray(a, float) - np.asarray(b, float)).max() <= 4 * np.spacing(np.abs(np.asarray(b, float)).max())
    untouched = np.setdiff1d(np.arange(40), batch.indices)
    assert len(untouched) > 5
    np.testing.assert_array_equal(whole[0][untouched], table[untouched])


TABLES = {
    "adam": (lambda: sparse_riemannian_adam(0.1, manifolds=PoincareBall(K)), 2),
    "adam, amsgrad": (lambda: sparse_riemannian_adam(0.1, amsgrad=True, manifolds=PoincareBall(K)), 2),
    "sgd": (lambda: sparse_riemannian_sgd(0.1, 0.9, manifolds=Lorentz(K)), 2),
}


@pytest.mark.parametrize("name", slow.all_but({"adam, amsgrad"}, TABLES))
def test_ten_million_rows_are_updated_in_place_at_the_cost_of_the_batch(name: str):
    """The step compiled for tables of 10^7 x 16 aliases each to its result, holds nothing of their size, copies none of
    them, and computes exactly as much as that for 10^4 rows."""
    make, tables = TABLES[name]
    tx, n, d = make(), 64, 16

    def compiled(rows: int) -> Any:
        table = jax.ShapeDtypeStruct((rows, d), jnp.float32)
        grads = RowGradients(jax.ShapeDtypeStruct((n,), jnp.int32), jax.ShapeDtypeStruct((n, d), jnp.float32))
        state = jax.eval_shape(tx.init, table)
        return jax.jit(tx.step, donate_argnums=(0, 1)).lower(table, state, grads).compile()

    large, small = compiled(10**7), compiled(10**4)
    memory = large.memory_analysis()
    assert memory.alias_size_in_bytes >= 10**7 * tables * d * 4
    assert memory.temp_size_in_bytes < 2**20
    assert not re.search(r"= f32\[10000000,\d+\]\S* (copy|add|multiply|select)\(", large.as_text())
    assert large.cost_analysis()["flops"] == small.cost_analysis()["flops"]


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
    params = {"table": jnp.asarray(points())}
    tx = sparse_riemannian_sgd(0.1, momentum=0.9, manifolds=PoincareBall(K))
    with pytest.raises(error, match=message):
        tx.step(params, tx.init(params), {"table": grads})
    with pytest.raises(ValueError, match="matrices whose rows are points"):
        tx.init({"table": jnp.zeros(3)})
