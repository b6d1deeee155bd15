"""`port_jax.training.fit`: the same steps as a plain loop, whatever the chunks; resume, stop, errors, mini-batches."""

from __future__ import annotations

import dataclasses
import gc
import signal
import subprocess
import sys
import time
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parity_tests import draws
from parity_tests.training.problem import LONG, count, counting, evaluate, loss, optimizer, problem, same, start, step
from port_jax.training import History, TrainingError, fit, gradient_step, train_state


@pytest.fixture(scope="module")
def whole():
    """50 steps without a break."""
    return fit(step, start(), steps=50, batch=problem(), chunk=8, evaluate=evaluate, every=20, monitor="near", mode="min")


def test_equals_a_plain_loop(whole):
    state, losses = start(), []
    advance = jax.jit(step)
    for _ in range(50):
        state, numbers = advance(state, problem())
        losses.append(float(numbers["loss"]))
    assert int(whole.state.step) == 50
    np.testing.assert_allclose(whole.history.steps["loss"], losses, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14), whole.state.params, state.params)
    assert losses[-1] < losses[0]
    assert [row["step"] for row in whole.history.evaluations] == [20, 40, 50]
    assert whole.best_step == 50
    assert not whole.stopped


def test_compiles_once_and_leaves_the_given_state_alone():
    """A second call compiles nothing: it goes to the same end, or on from there."""
    mine, state = gradient_step(loss, optimizer()), start()
    before = jax.tree.map(np.asarray, state.params)
    done = fit(mine, state, steps=23, batch=problem(), chunk=5, every=7)
    assert done.compilations == 1
    same(state.params, before)
    again = fit(mine, state, steps=23, batch=problem(), chunk=5, every=7)
    same(again.state, done.state)
    assert again.compilations == fit(mine, done.state, steps=30, batch=problem(), chunk=5).compilations == 0
    assert fit(mine, done.state, steps=30, batch=problem(), chunk=4).compilations == 1


@pytest.mark.parametrize(
    ("slow", "chosen", "progress"), [(True, False, True), (True, True, True), (False, False, True), (True, False, False)]
)
def test_a_slow_compilation_names_the_cache(slow, chosen, progress, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules[fit.__module__], "SLOW", 0.0 if slow else 1000.0)
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", before if chosen else None)
    try:
        fit(lambda state, batch: count(state, batch), counting(), steps=3, batch=jnp.ones(2), chunk=1, progress=progress)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert capsys.readouterr().err.count("port_jax.compilation_cache()") == (slow and progress and not chosen)


class Model:
    """A step that is a method."""

    def step(self, state, batch):
        return count(state, batch + self.shift)

    shift = 1.0


def test_a_method_is_compiled_once_and_nothing_is_kept_alive():
    model, other = Model(), Model()
    assert [fit(m.step, counting(), steps=3, batch=jnp.ones(2)).compilations for m in (model, model, other)] == [1, 0, 1]
    held = jnp.ones(2)

    def closed(state, batch):
        return count(state, batch + held)

    assert [fit(closed, counting(), steps=3, batch=jnp.ones(2)).compilations for _ in range(2)] == [1, 0]
    gone = [weakref.ref(closed), weakref.ref(model)]
    del closed, model
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_resumes_to_the_bit(whole, tmp_path):
    """Stopped after 20 steps and begun anew, with other chunks: parameters, history and best are those of one run."""
    settings = {"batch": problem(), "evaluate": evaluate, "every": 20, "monitor": "near", "mode": "min", "folder": tmp_path}
    fit(step, start(), steps=20, chunk=8, **settings)
    done = fit(step, start(), steps=50, chunk=8, **settings)
    same(done.state, whole.state)
    same(done.best, whole.best)
    assert done.history.steps == whole.history.steps
    assert done.history.evaluations == whole.history.evaluations
    again = fit(step, start(), steps=50, chunk=8, **settings)
    same(again.best, whole.best)


@pytest.mark.slow  # weights/test_store.py kills a writer at any moment, and the test above resumes
def test_a_killed_run_goes_on(whole, tmp_path):
    """SIGKILL at a random moment of a run in another process; then it is finished here."""
    code = "from parity_tests.training.problem import run; import sys; run(sys.argv[1])"
    rng = draws.rng(0)
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"  # the first checkpoint is there
    time.sleep(float(rng.uniform(0, 0.5)))
    process.send_signal(signal.SIGKILL)
    process.wait()
    settings = {"batch": problem(), "evaluate": evaluate, "every": 5, "monitor": "near", "mode": "min", "chunk": 5}
    done = fit(step, start(), steps=LONG, folder=tmp_path, **settings)
    plain = fit(step, start(), steps=LONG, **settings)
    same(done.state, plain.state)
    same(done.best, plain.best)
    assert done.history.steps == plain.history.steps


def test_batches_come_ahead_and_by_number():
    """Each step gets its own batch, made once and off the main thread, also where evaluations cut chunks short."""
    import threading

    drawn = []

    def batches(number):
        drawn.append((number, threading.current_thread() is threading.main_thread()))
        return {"number": np.asarray(number, np.int32)}

    def counted(state, batch):
        return state._replace(step=state.step + 1), {"loss": jnp.zeros(()), "number": batch["number"]}

    done = fit(counted, start(), steps=11, batches=batches, chunk=4, every=6)
    assert done.history.steps["number"] == list(range(11))
    assert [n for n, _ in drawn] == list(range(11))
    assert not any(main for _, main in drawn)
    assert done.compilations == 1


def test_stops_when_nothing_improves():
    values = iter([0.9, 0.5, 0.7, 0.6, 0.7, float("nan"), 0.9])  # the first call only shows its names
    settings = {"every": 10, "evaluate": lambda params: {"auc": next(values)}, "monitor": "auc", "patience": 3}
    done = fit(step, start(), steps=100, batch=problem(), **settings)
    assert done.stopped
    assert int(done.state.step) == 50
    assert done.best_step == 20


def test_each_step_has_a_key_of_its_own():
    """With the same key dropout would drop the same connections in every step."""

    def drawing(params, batch, key):
        return jnp.sum(params["x"]), {"drawn": jax.random.uniform(key)}

    tx = optax.sgd(0.1)
    done = fit(gradient_step(drawing, tx), train_state({"x": jnp.ones(3)}, tx, draws.key(0)), steps=9, batch=0, chunk=4)
    assert len(set(done.history.steps["drawn"])) == 9


def test_a_loss_that_is_not_finite_names_its_step(tmp_path):
    def broken(params, batch, key):
        return jnp.sum(params["x"]) / batch

    tx = optax.sgd(0.1)
    state = train_state({"x": jnp.ones(3)}, tx, draws.key(0))
    with pytest.raises(TrainingError, match=r"step 7 is .*learning rate"):
        fit(gradient_step(broken, tx), state, steps=20, batches=lambda n: np.float32(n != 6), chunk=4, every=4, folder=tmp_path)
    kept = fit(gradient_step(broken, tx), state, steps=4, batches=lambda n: np.float32(1), folder=tmp_path)
    assert int(kept.state.step) == 4


def test_another_runs_folder_is_refused(tmp_path):
    fit(step, start(), steps=2, batch=problem(), folder=tmp_path)
    other = train_state({"x": jnp.ones(3)}, optimizer(), draws.key(0), opt_state=())
    with pytest.raises(TrainingError, match=r"contains another run: .* missing"):
        fit(step, other, steps=2, batch=problem(), folder=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"steps": -1, "batch": 0}, "steps is -1"),
        ({"steps": True, "batch": 0}, "steps is True"),
        ({"steps": 2.0, "batch": 0}, "steps is 2.0"),
        ({"steps": 1, "batch": 0, "every": False}, "every is False"),
        ({"steps": 1, "batch": 0, "evaluate": evaluate, "monitor": "near", "patience": True}, "patience is True"),
        ({"steps": 1}, "either batch"),
        ({"steps": 1, "batch": 0, "monitor": "auc"}, "no evaluate"),
        ({"steps": 1, "batch": 0, "mode": "up"}, "'max' or 'min'"),
        ({"steps": 1, "batch": 0, "patience": 2}, "patience is 2"),
        ({"steps": 1, "batch": 0, "chunk": 0}, "chunk is 0"),
    ],
)
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        fit(step, start(), **arguments)


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ({"near": 1.0}, "monitor is 'auc'; evaluate returned near"),
        ({"auc": 1.0, "step": 3}, "named 'step'"),
        ({"auc": 1.0, "train/loss": 3.0}, "named 'train/loss'"),
        ({"auc": 1.0, 7: 3.0}, "named 7"),
        (0.5, "evaluate returned 0.5"),
    ],
)
def test_evaluations_that_cannot_be_recorded_are_refused_before_the_first_step(returned, says, tmp_path):
    def forbidden(state, batch):
        raise AssertionError("a step was made")

    with pytest.raises(ValueError, match=says):
        fit(forbidden, counting(), steps=9, batch=0, evaluate=lambda params: returned, monitor="auc", folder=tmp_path)


def test_a_name_that_appears_later_is_refused_as_well():
    with pytest.raises(ValueError, match="named 'step'"):
        fit(count, counting(), steps=4, batch=0, every=2, evaluate=lambda params: {"step" if params["w"][0] > 1 else "auc": 1.0})


def test_fewer_steps_than_were_made_say_so(tmp_path):
    """A run that has gone on beyond `steps` is not the run that was asked for."""
    fit(count, counting(), steps=6, batch=0, folder=tmp_path)
    with pytest.raises(TrainingError, match=r"steps is 5, but the run in .* has made 6; give at least 6, or another folder"):
        fit(count, counting(), steps=5, batch=0, folder=tmp_path)
    with pytest.raises(TrainingError, match=r"steps is 5, but the given state has made 8"):
        fit(count, counting()._replace(step=jnp.asarray(8)), steps=5, batch=0)
    assert int(fit(count, counting(), steps=6, batch=0, folder=tmp_path).state.params["w"][0]) == 6


def test_a_step_without_a_loss_is_named():
    with pytest.raises(ValueError, match=r"the step returns size; .* named loss"):
        fit(lambda state, batch: (state, {"size": jnp.zeros(())}), counting(), steps=1, batch=0)


def test_history_as_table_file_and_picture(whole, tmp_path):
    rows = whole.history.rows()
    np.testing.assert_allclose(rows[1]["train/loss"], np.mean(whole.history.steps["loss"][20:40]))
    assert whole.history.table().row_count == 3
    whole.history.save(tmp_path / "history.csv")
    text = (tmp_path / "history.csv").read_text().splitlines()
    assert text[0] == "step,train/loss,near"
    assert len(text) == 4
    whole.history.plot(tmp_path / "history.png")
    assert (tmp_path / "history.png").stat().st_size > 5000
    assert History().rows() == []


@pytest.mark.parametrize("name", ["loss", "val/NLL", "mean_rank", "reconstruction_error", "mse"])
def test_whether_small_is_good_is_not_guessed(name: str):
    """The default is that the largest is the best, which for a loss would keep the worst state."""
    evaluate = lambda params: {name: 1.0}  # noqa: E731
    with pytest.raises(ValueError, match=f"monitor is '{name}', and mode is not given: give mode='min'"):
        fit(count, counting(), steps=4, batch=(), evaluate=evaluate, monitor=name)
    for mode in ("min", "max"):
        assert fit(count, counting(), steps=4, batch=(), evaluate=evaluate, monitor=name, mode=mode).best_step == 4


def test_a_step_without_data():
    with pytest.raises(ValueError, match=r"batch=\(\) if the loss takes no data"):
        fit(count, counting(), steps=4)
    assert int(fit(count, counting(), steps=4, batch=()).state.step) == 4


def test_a_step_that_cannot_be_hashed_is_traced_once():
    """A data class that is compared by its fields has no hash."""

    @dataclasses.dataclass
    class Counted:
        traces: int = 0

        def __call__(self, state, batch):
            self.traces += 1
            return state._replace(step=state.step + 1), {"loss": state.params.sum()}

    step, tx = Counted(), optax.sgd(0.1)
    result = fit(step, train_state(jnp.arange(3.0), tx, draws.key(0)), steps=3, batch=(), progress=False)
    assert result.history.steps["loss"] == [3.0, 3.0, 3.0]
    assert step.traces == 1
