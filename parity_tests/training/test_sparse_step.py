"""Steps on the rows that a batch names: on one device beside the sparse optimizers by hand, and on many beside one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws
from parity_tests.training import tables
from parity_tests.training.tables import OPTIMIZERS, apart
from port_jax.optim import RowGradients, sparse_riemannian_sgd
from port_jax.training import Plan, TrainingError, fit, gradient_step, sparse_step, train_state

ROOT = Path(__file__).parents[2]
FAST = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
SIZE = 40


@pytest.mark.parametrize("what", ["memory", *(pytest.param(name, marks=pytest.mark.slow) for name in ("training", "steps", "overflow"))])
def test_eight_devices_give_what_one_gives(what: str):
    command = (sys.executable, "-m", "parity_tests.training.on_tables", what)
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "XLA_FLAGS": FAST}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


@pytest.mark.parametrize(("name", "optimizer"), [("ball", "adam"), ("hyperboloid", "sgd")])
def test_one_device_gives_the_sparse_optimizer_by_hand(name: str, optimizer: str):
    tx = OPTIMIZERS[optimizer](manifolds={"points": tables.MANIFOLDS[name][0]})
    state, step, value = tables.state(name, SIZE, optimizer), tables.step(name, optimizer), tables.loss(name)
    table, moments = state.params, state.opt_state
    run = jax.jit(step)
    for number in range(3):
        batch = tables.batch(number, SIZE)
        state, found = run(state, batch)
        key = jax.random.fold_in(draws.key(3), number)

        @jax.jit
        def by_hand(table: Any, moments: Any, batch: Any, key: Any) -> Any:
            of_table = lambda points: value({"points": points.at[batch["ids"]].get(mode="clip")}, batch, key)[0]  # noqa: E731
            loss, dense = jax.value_and_grad(of_table)(table["points"])
            touched = jnp.unique(batch["ids"], size=batch["ids"].size, fill_value=SIZE)
            return loss, tx.step(table, moments, {"points": RowGradients(touched, dense.at[touched].get(mode="fill", fill_value=0))})

        loss, (table, moments) = by_hand(table, moments, batch, key)
        np.testing.assert_allclose(found["loss"], loss, rtol=1e-13)
        assert int(state.step) == number + 1
    # What a padded place does to the gradient of the row that stands for it is 0, as its weight is.
    assert apart((state.params, state.opt_state), (table, moments)) <= 4


def test_a_plan_of_one_device_changes_nothing():
    state, plain, planned = tables.state("ball", SIZE), tables.step("ball"), tables.step("ball", plan=tables.plan(count=1))
    begun = planned.shuffled(state)
    moved = np.abs(np.asarray(begun.params["points"]) - np.asarray(state.params["points"])).max(1)
    assert np.mean(moved > 0) > 0.8
    assert apart(planned.unshuffled(begun).params, state.params) == 0
    ours, found = jax.jit(planned)(begun, tables.batch(0, SIZE))
    theirs, expected = jax.jit(plain)(state, tables.batch(0, SIZE))
    ours = planned.unshuffled(ours)
    assert apart((ours.params, ours.opt_state), (theirs.params, theirs.opt_state)) <= 4
    assert (float(found.pop("rounds")), found.keys()) == (1.0, expected.keys())


def test_a_row_outside_of_the_table_is_named():
    state, step = tables.state("ball", SIZE), tables.step("ball")
    for wrong in (SIZE + 1, -1):
        batch = tables.batch(0, SIZE)
        batch["ids"][3, 2] = wrong
        says = rf"row {wrong} of points, at \[3, 2\] of what indices\(batch\) gives, is outside \[0, 40\); the table has 40 rows"
        for call in (
            lambda batch=batch: fit(step, state, steps=1, batches=lambda number: batch, progress=False),
            lambda batch=batch: fit(step, state, steps=1, batch=batch, progress=False),
            lambda batch=batch: step(state, batch),
        ):
            with pytest.raises(IndexError, match=says):
                call()
        batch["ids"][3, 0] = wrong  # the pairs of the other columns may be dropped, and count nothing then
        assert np.isnan(jax.jit(step)(state, batch)[1]["loss"])


def test_what_does_not_fit_is_named():
    plan, state = tables.plan(count=1), tables.state("ball", SIZE)
    ok = tables.step("ball", plan=plan)
    with pytest.raises(ValueError, match="capacity is 0; give a whole number of at least 1"):
        tables.step("ball", plan=plan, capacity=0)
    with pytest.raises(TypeError, match="plan is 8; give a port_jax"):
        tables.step("ball", plan=8)
    with pytest.raises(TypeError, match="optimizer is None; give a sparse transformation"):
        sparse_step(tables.loss("ball"), None, tables.indices)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="optimizer takes gradients of rows; give it to sparse_step"):
        gradient_step(tables.loss("ball"), ok.optimizer)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TrainingError, match="give the same plan to sparse_step and to fit"):
        fit(ok, state, steps=1, batch=tables.batch(0, SIZE), plan=Plan(plan.mesh, tables=()), progress=False)
    other = sparse_step(tables.loss("ball"), ok.optimizer, tables.indices, plan=Plan(plan.mesh, tables=()))
    with pytest.raises(TrainingError, match=r"not the parameter 'points'; a sparse step moves split tables alone: Plan\(\.\.\., tables="):
        other.shuffled(state)
    named = sparse_step(tables.loss("ball"), ok.optimizer, lambda batch: {"point": batch["ids"]})
    with pytest.raises(TrainingError, match=r"names rows of 'point', and the tables are 'points'; give rows for each"):
        named(state, tables.batch(0, SIZE))
    fractions = sparse_step(tables.loss("ball"), ok.optimizer, lambda batch: {"points": batch["weights"]})
    with pytest.raises(TypeError, match=r"gives float64\[16, 5\] for points; give whole numbers"):
        fractions(state, tables.batch(0, SIZE))
    taken = sparse_step(lambda rows, batch, key: (rows["points"].sum(), {"rounds": 1}), ok.optimizer, tables.indices, plan=plan)
    with pytest.raises(ValueError, match="records a number named rounds, which the step records itself"):
        taken(state, tables.batch(0, SIZE))
    uneven = tables.step("ball", plan=plan)
    object.__setattr__(plan, "mesh", jax.sharding.AbstractMesh((8,), ("x",)))
    with pytest.raises(TrainingError, match=r"what indices\(batch\) gives for points has 9 rows, which 8 devices along 'x' do not divide"):
        jax.eval_shape(uneven, state, tables.batch(0, SIZE, rows=9))


@pytest.mark.slow  # eight devices train one table above
def test_several_tables_and_collections():
    """Each table has its own rows; the numbers of a loss with collections come back as they do from `gradient_step`."""
    plan = Plan(jax.make_mesh((1,), ("x",)), tables=("a", "b"))
    tx = sparse_riemannian_sgd(0.1, manifolds=tables.BALL)
    params = {"a": jnp.asarray(tables.points("ball", 8)), "b": jnp.asarray(tables.points("ball", 24, seed=1))}

    def loss(rows: Any, batch: Any, key: Any, collections: Any) -> Any:
        found = tables.BALL.dist2(rows["a"], rows["b"]).mean()
        return found, {}, {"seen": {"n": collections["seen"]["n"] + 1}}

    def run(plan: Plan | None) -> Any:
        step = sparse_step(loss, tx, lambda batch: {"b": batch[:, 1], "a": batch[:, 0]}, plan=plan)
        state = train_state(params, tx, draws.key(0), collections={"seen": {"n": jnp.zeros(())}})
        pairs = np.stack([draws.rng(0).integers(0, n, 12) for n in (8, 24)], 1)
        return fit(step, state, steps=3, batch=pairs, plan=plan, progress=False).state

    ours, theirs = run(plan), run(None)
    assert float(ours.collections["seen"]["n"]) == 3
    assert apart((ours.params, ours.opt_state), (theirs.params, theirs.opt_state)) <= 4
