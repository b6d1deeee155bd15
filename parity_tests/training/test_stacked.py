"""Steps on several batches: the same on any number of devices, and what they refuse. on_stacked.py has the comparisons."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parity_tests import draws, processes
from port_jax.training import Plan, StackedBatches, TrainingError, gradient_step, mean_over_batches, train_state


@pytest.mark.parametrize("model", ["linear", pytest.param("hgat", marks=pytest.mark.slow)])
def test_eight_devices_make_the_steps_of_one(model: str):
    told = processes.run("parity_tests.training.on_stacked", model, devices=8)
    assert "eight" in told[0]
    assert ("two" in told[0]) == (model == "linear")


def test_each_process_makes_its_own_batches(monkeypatch: pytest.MonkeyPatch):
    batches = StackedBatches(lambda number: {"x": np.full(3, number)}, count=6)
    assert batches(2)["x"][:, 0].tolist() == [12, 13, 14, 15, 16, 17]
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert batches(2)["x"].tolist() == [[14] * 3, [15] * 3]
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(TrainingError, match="count is 6, which 4 processes do not divide; give a multiple"):
        batches(0)
    with pytest.raises(AttributeError, match="batches has no steps_per_epoch"):
        _ = batches.steps_per_epoch


def _loss(params: Any, batch: Any, key: Any) -> Any:
    return jnp.sum(params["w"] * batch)


def test_what_does_not_fit_is_named():
    mesh = jax.make_mesh((1,), ("x",))
    with pytest.raises(TrainingError, match="plan splits w, and batches of their own need whole parameters"):
        mean_over_batches(_loss, Plan(mesh, tables=("w",)))
    state = train_state({"w": jnp.ones(2)}, optax.sgd(0.1), draws.key(0))
    wrong = gradient_step(mean_over_batches(lambda params, batch, key: (0.0, {}, {})), optax.sgd(0.1))
    with pytest.raises(TypeError, match="the loss returned 3 values"):
        wrong(state, np.ones((2, 2)))
    step = gradient_step(mean_over_batches(_loss), optax.sgd(0.1))
    with pytest.raises(TypeError, match="the state has collections"):
        step(state._replace(collections={"batch_stats": {"mean": jnp.zeros(2)}}), np.ones((2, 2)))
    plan = Plan(mesh)
    object.__setattr__(plan, "mesh", jax.sharding.AbstractMesh((8,), ("x",)))
    with pytest.raises(TrainingError, match="an array of the stacked batches has 9 rows, which 8 devices along 'x' do not divide"):
        jax.eval_shape(mean_over_batches(_loss, plan), state.params, np.ones((9, 2)), state.key)
