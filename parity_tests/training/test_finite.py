"""A state that is not finite is neither saved nor returned, and the error says what, when, and what is left."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parity_tests import draws
from parity_tests.training.problem import count, counting
from port_jax.training import TrainingError, TrainState, fit, gradient_step, restore, train_state


def distance(params: Any, batch: Any, key: Any) -> Any:
    """Its gradient at distance zero is NaN, where its value is 0."""
    return jnp.sqrt(jnp.sum((params["w"] - batch) ** 2))


DESCENT = optax.sgd(1.0)


def start() -> TrainState:
    """Ten steps away from the batch: the distance is 0 after step 10, and step 11 divides by it."""
    return train_state({"w": jnp.asarray([10.0]), "v": jnp.zeros(3)}, DESCENT, draws.key(0))


def go(steps: int, every: int, folder: Any = None, **settings: Any) -> Any:
    return fit(gradient_step(distance, DESCENT), start(), steps=steps, batch=jnp.zeros(1), every=every, chunk=6, folder=folder, **settings)


@pytest.mark.parametrize("monitor", [None, "near"])
def test_a_nan_gradient_at_an_evaluation_leaves_the_last_good_state(monitor, tmp_path):
    """The loss of step 11 is finite and its gradient is not: the NaN used to replace the only checkpoint, and end every run after it."""
    evaluate = {"evaluate": lambda params: {"near": float(jnp.abs(params["v"]).sum())}, "monitor": monitor, "mode": "min"}
    go(5, 5, tmp_path, **evaluate)
    for _ in range(2):
        with pytest.raises(TrainingError) as error:
            go(40, 11, tmp_path, **evaluate)
        assert str(error.value).startswith("after step 11, params/w has 1 NaN of 1 elements; lower the learning rate")
        assert str(error.value).endswith(f"the last good state, of step 5, is in {tmp_path / 'checkpoints' / '5'}")
    assert float(restore(tmp_path).state.params["w"][0]) == 5
    assert go(10, 11, tmp_path, **evaluate).state.params["w"] == 0


def test_without_a_folder_the_last_good_state_is_returned():
    """An error would lose the run; NaN is not returned either."""
    with pytest.warns(RuntimeWarning, match=r"after step 11, params/w has 1 NaN .* ends with its last good state, of step 0; with folder="):
        result = go(11, 100)
    assert result.state.params["w"] == result.best["w"] == start().params["w"]
    assert result.stopped
    with pytest.warns(RuntimeWarning, match=r"the loss of step 12 is nan; .* ends with its last good state, of step 9; with folder="):
        result = go(20, 3, evaluate=lambda params: {"near": float(jnp.abs(params["w"]).sum())}, monitor="near", mode="min")
    assert (int(result.state.step), result.best_step, len(result.history.steps["loss"])) == (9, 9, 9)
    assert result.history.evaluations[-1]["step"] == 9


def test_a_loss_that_is_not_finite_says_what_is_left(tmp_path):
    with pytest.raises(TrainingError, match=r"the loss of step 12 is nan; .*; the last good state, of step 10, is in .*checkpoints/10"):
        go(20, 10, tmp_path)
    with pytest.raises(TrainingError, match=r"the loss of step 12 is nan; .*of step 10"):
        go(20, 20, tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("opt_state", jnp.asarray([1.0, math.nan, -math.inf]), "opt_state/m has 1 NaN and 1 infinite of 3 elements"),
        ("collections", jnp.asarray([math.inf, 0.0, 0.0]), "collections/m has 1 infinite of 3 elements"),
        ("params", jnp.asarray([math.inf, 0.0, 0.0], jnp.bfloat16), "params/m has 1 infinite of 3 elements"),
        ("params", jnp.asarray([complex(0, math.nan), 0.0, 0.0]), "params/m has 1 NaN of 3 elements"),
    ],
)
def test_each_part_of_a_state_is_looked_at(name, value, says, tmp_path):
    """Also where parameters, loss and evaluation stay finite."""

    def spoil(state: TrainState, batch: Any) -> Any:
        new = {"m": jnp.where(state.step == 3, value, getattr(state, name)["m"])}
        return state._replace(step=state.step + 1, **{name: new}), {"loss": jnp.zeros(())}

    state = counting()._replace(**{name: {"m": jnp.zeros_like(value)}})
    with pytest.raises(TrainingError, match=f"after step 6, {says}.*of step 3"):
        fit(spoil, state, steps=9, batch=0, every=3, folder=tmp_path)


def test_what_begins_as_infinity_may_stay_so(tmp_path):
    """The best value of a scheduler, and a mask; one more infinite element, or a NaN in place of one, ends the run."""
    tx = optax.contrib.reduce_on_plateau(patience=3)
    state = train_state({"w": jnp.ones(2), "mask": jnp.asarray([0.0, -math.inf])}, tx, draws.key(0))
    assert np.isinf(state.opt_state.best_value)
    for steps in (2, 4):
        done = fit(count, state, steps=steps, batch=0, every=2, folder=tmp_path)
    np.testing.assert_array_equal(done.state.params["mask"], [4.0, -math.inf])
    for mask, says in (([0.0, math.nan], "1 NaN"), ([-math.inf, math.inf], "2 infinite")):

        def spoil(state: TrainState, batch: Any, mask: Any = mask) -> Any:
            return count(state._replace(params={**state.params, "mask": jnp.asarray(mask)}), batch)

        with pytest.warns(RuntimeWarning, match=f"params/mask has {says} of 2"):
            fit(spoil, state, steps=2, batch=0)
