"""Errors of other people's functions and interrupts: finished steps are kept, and the run goes on as if nothing had happened."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests.slow import all_but
from parity_tests.training.problem import counting, same_run
from port_jax.training import Fit, History, fit, restore


def adding(state: Any, batch: Any) -> Any:
    """Adds the batch, so that the state says which batches it got, and in which order."""
    w = 0.5 * state.params["w"] + batch
    return state._replace(params={"w": w}, step=state.step + 1), {"loss": w[0], "batch": batch[0]}


class Source:
    """Batches by number, each once; it fails at some."""

    def __init__(self, *failing: int, error: BaseException | None = None):
        self.failing, self.error, self.made = list(failing), error or OSError("the disk went away"), []

    def __call__(self, number: int) -> np.ndarray:
        if number in self.failing:
            self.failing.remove(number)
            raise self.error
        assert number not in self.made, f"batch {number} is made twice"
        self.made.append(number)
        return np.asarray([number + 1.0])


def run(batches: Any, folder: Path | None = None, steps: int = 13, **settings: Any) -> Fit:
    settings = {"evaluate": lambda params: {"value": float(params["w"][0]) % 3}, **settings}
    return fit(adding, counting(w=jnp.zeros(1)), steps=steps, batches=batches, chunk=4, every=6, monitor="value", folder=folder, **settings)


@pytest.fixture(scope="module")
def whole() -> Fit:
    return run(Source())


@pytest.mark.parametrize("number", all_but({2, 6, 12}, [0, 2, 4, 6, 11, 12]))
def test_batches_that_fail_lose_nothing(number: int, whole: Fit, tmp_path: Path):
    """Within a chunk, at its ends, at an evaluation, and at the first and the last step."""
    source = Source(number)
    with pytest.raises(OSError, match="the disk went away") as error:
        run(source, tmp_path)
    assert source.made == list(range(number))
    assert f"of step {number}, is in {tmp_path}" in error.value.__notes__[0]
    assert int(restore(tmp_path).state.step) == number
    same_run(run(source, tmp_path), whole)
    assert source.made == list(range(13))


def test_batches_that_end_and_ragged_batches_are_named(tmp_path: Path):
    source = iter(range(7))
    with pytest.raises(StopIteration) as error:
        run(lambda number: np.asarray([float(next(source))]), tmp_path / "ended")
    assert "of step 7, is in" in error.value.__notes__[0]
    with pytest.raises(ValueError, match=r"batch 5 differs from batch 4: float64\[2\], not float64\[1\]; .* pad or leave out"):
        run(lambda number: np.zeros(1 + number // 5), tmp_path / "ragged")
    assert int(restore(tmp_path / "ragged").state.step) == 5


@pytest.mark.parametrize(
    ("error", "at"), all_but({(KeyboardInterrupt, 2), (KeyError, 3)}, itertools.product([KeyError, KeyboardInterrupt], [2, 3]))
)
def test_an_evaluation_that_fails_is_made_again(error: type[BaseException], at: int, whole: Fit, tmp_path: Path):
    """Also at the end, where its state is on disk before it is evaluated."""
    calls: list[int] = []

    def failing(params: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == at + 1:  # the first call only shows the names
            raise error()
        return {"value": float(params["w"][0]) % 3}

    source, step = Source(), {2: 12, 3: 13}[at]
    with pytest.raises(error) as raised:
        run(source, tmp_path, evaluate=failing)
    assert f"of step {step}, is in" in raised.value.__notes__[0]
    source.made = source.made[:step]  # the next chunk's were made ahead
    same_run(run(source, tmp_path, evaluate=failing), whole)
    assert restore(tmp_path, "best").state.step == whole.best_step
    same_run(run(source, tmp_path, evaluate=failing), whole)
    assert len(calls) == 5


def test_an_interrupt_in_the_middle_of_a_chunk_keeps_what_was_saved(monkeypatch: pytest.MonkeyPatch, whole: Fit, tmp_path: Path):
    """The state is with the device then: neither half a chunk nor arrays that are gone are saved."""
    record = History.record

    def interrupted(self: History, columns: Any) -> None:
        if len(self.steps.get("loss", [])) == 6:
            record(self, {"loss": columns["loss"]})
            raise KeyboardInterrupt
        record(self, columns)

    with monkeypatch.context() as patch:
        patch.setattr(History, "record", interrupted)
        with pytest.raises(KeyboardInterrupt) as error:
            run(Source(), tmp_path)
    assert "of step 6, is in" in error.value.__notes__[0]
    same_run(run(Source(), tmp_path), whole)


def test_no_batch_is_made_after_the_end():
    """A run that stops early leaves no thread that still asks for batches."""
    source = Source()
    done = run(source, steps=60, evaluate=lambda params: {"value": 0.0}, patience=1)
    assert int(done.state.step) == 12
    made = len(source.made)
    time.sleep(0.05)
    assert len(source.made) == made <= 16
