"""`gradient_step` and `fit` beside the same run in numpy: parameters, losses, keys, batches, evaluations, in one piece and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parity_tests import draws
from parity_tests.slow import all_but
from port_jax.training import Fit, TrainState, fit, gradient_step, restore, train_state

STEPS, RATE, MASK = 13, 0.3, 0.7


def start() -> TrainState:
    return train_state({"x": jnp.asarray([2.0, -1.0, 0.5])}, optax.sgd(RATE), draws.key(4))


def batch(number: int) -> np.ndarray:
    return np.cos(np.arange(3.0) + number)


def loss(params: Any, target: Any, key: Any) -> Any:
    """Half the square of what a mask of the key leaves of the way to the target; the mask is recorded as a number."""
    mask = jax.random.bernoulli(key, MASK, (3,))
    return 0.5 * jnp.sum(jnp.where(mask, params["x"] - target, 0) ** 2), {"mask": mask @ jnp.asarray([1.0, 2.0, 4.0])}


def run(folder: Path | None, steps: int, chunk: int, state: TrainState | None = None) -> Fit:
    settings: dict[str, Any] = {"batches": batch, "every": 4, "evaluate": lambda p: {"sum": p["x"].sum()}, "monitor": "sum"}
    state = start() if state is None else state
    return fit(gradient_step(loss, optax.sgd(RATE)), state, steps=steps, chunk=chunk, mode="min", folder=folder, **settings)


def in_numpy() -> tuple[list[np.ndarray], list[float], list[float]]:
    """Parameters before each step and after the last one; losses and masks. The key of a step is the run's, folded with its number."""
    points, losses, masks = [np.array([2.0, -1.0, 0.5])], [], []
    for number in range(STEPS):
        mask = np.asarray(jax.random.bernoulli(jax.random.fold_in(draws.key(4), number), MASK, (3,)))
        way = np.where(mask, points[-1] - batch(number), 0)
        points.append(points[-1] - RATE * way)
        losses.append(0.5 * float(way @ way))
        masks.append(float(mask @ [1.0, 2.0, 4.0]))
    return points, losses, masks


@pytest.mark.parametrize("stops", [(STEPS,), (4, 7, STEPS)])
def test_a_run_beside_numpy(stops: tuple[int, ...], tmp_path: Path):
    """In one piece, and interrupted twice: after an evaluation, and at a step that ends a run."""
    done = [run(tmp_path, steps, chunk=3) for steps in stops][-1]
    points, losses, masks = in_numpy()
    assert len(set(masks)) > 2  # a run that draws one mask for all steps is another one
    np.testing.assert_allclose(done.state.params["x"], points[-1], rtol=1e-13)
    np.testing.assert_allclose(done.history.steps["loss"], losses, rtol=1e-13)
    assert done.history.steps["mask"] == masks
    evaluated = [4, 8, 12, STEPS]
    assert [row["step"] for row in done.history.evaluations] == evaluated
    sums = [points[step].sum() for step in evaluated]
    np.testing.assert_allclose([row["sum"] for row in done.history.evaluations], sums, rtol=1e-13)
    assert done.best_step == evaluated[int(np.argmin(sums))]
    np.testing.assert_allclose(done.best["x"], points[done.best_step], rtol=1e-13)
    rows, before = done.history.rows(), [0, *evaluated]
    np.testing.assert_allclose([row["train/loss"] for row in rows], [np.mean(losses[a:b]) for a, b in zip(before, evaluated)])


def test_a_state_from_elsewhere_keeps_its_number():
    """A state that has made steps, such as one that was saved by hand, goes on with the keys and batches of the next ones."""
    points, losses, masks = in_numpy()
    at = start()._replace(params={"x": jnp.asarray(points[5])}, step=jnp.asarray(5, jnp.int32))
    done = run(None, STEPS, chunk=20, state=at)
    np.testing.assert_allclose(done.state.params["x"], points[-1], rtol=1e-13)
    np.testing.assert_allclose(done.history.steps["loss"], losses[5:], rtol=1e-13)
    assert done.history.steps["mask"] == masks[5:]
    means = [np.mean(losses[a:b]) for a, b in ((5, 8), (8, 12), (12, 13))]
    np.testing.assert_allclose([row["train/loss"] for row in done.history.rows()], means)
    drawn = done.history.plot().axes[0].lines[0]
    np.testing.assert_array_equal(drawn.get_xdata(), range(6, STEPS + 1))
    np.testing.assert_allclose(drawn.get_ydata(), losses[5:])


def test_the_optimizer_is_told_the_loss():
    """The one at the parameters whose gradient it gets, as transformations that follow a plateau or search a line need it."""

    def update(updates: Any, state: Any, params: Any, *, value: Any) -> Any:
        return jax.tree.map(lambda g: -RATE * g, updates), (state[0] + value, params["x"])

    tx = optax.GradientTransformationExtraArgs(lambda params: (jnp.zeros(()), params["x"]), update)
    state = train_state({"x": jnp.asarray([2.0, -1.0, 0.5])}, tx, draws.key(4))
    step = jax.jit(gradient_step(loss, tx))
    for number in range(STEPS):
        state, _ = step(state, batch(number))
    points, losses, _ = in_numpy()
    np.testing.assert_allclose(state.opt_state[0], np.sum(losses), rtol=1e-13)
    np.testing.assert_allclose(state.opt_state[1], points[-2], rtol=1e-13)


@pytest.mark.parametrize("broken", all_but({30, 45}, [20, 30, 35, 40, 45]))
def test_patience_counts_across_a_break(broken: int, tmp_path: Path):
    """Best at step 20: a run with patience 3 stops at step 50, wherever it was broken, and does not go on after it.

    What is evaluated at a break that is no multiple of `every` neither counts nor is the best, as it would not be without a break.
    """
    values = {0: 0.9, 35: 1.0, 45: 0.0, 10: 0.5, 20: 0.7, 30: 0.6, 40: 0.7, 50: 0.1, 60: 0.9}
    step = gradient_step(lambda params, target, key: jnp.sum(params["x"]), optax.sgd(-1.0))  # each step adds 1
    begin = train_state({"x": jnp.zeros(())}, optax.sgd(-1.0), draws.key(0))
    settings: dict[str, Any] = {"batch": 0.0, "every": 10, "monitor": "auc", "patience": 3, "folder": tmp_path}
    settings["evaluate"] = lambda params: {"auc": values[round(float(params["x"]))]}
    first = fit(step, begin, steps=broken, **settings)
    assert first.best_step == (35 if broken == 35 else 20) == restore(tmp_path, "best").state.step
    for _ in range(2):
        done = fit(step, begin, steps=60, **settings)
        assert (done.stopped, int(done.state.step), done.best_step) == (True, 50, 20)
        assert float(done.best["x"]) == 20 == restore(tmp_path, "best").state.params["x"]
        assert [row["step"] for row in done.history.evaluations] == [10, 20, 30, 40, 50]


def test_collections_beside_numpy(tmp_path: Path):
    """A running mean of batches, as batch statistics are: no gradient moves it, evaluations get it, and it is saved, resumed and best."""

    def centred(params: Any, target: Any, key: Any, collections: Any) -> Any:
        mean = 0.9 * collections["batch_stats"]["mean"] + 0.1 * target
        return 0.5 * jnp.sum((params["x"] - target + mean) ** 2), {}, {"batch_stats": {"mean": mean}}

    tx = optax.sgd(RATE)
    begin = train_state(start().params, tx, draws.key(4), collections={"batch_stats": {"mean": jnp.zeros(3)}})

    def evaluate(params: Any, collections: Any) -> dict[str, float]:
        return {"first": collections["batch_stats"]["mean"][0]}

    settings: dict[str, Any] = {"batches": batch, "every": 4, "evaluate": evaluate, "monitor": "first", "folder": tmp_path}
    fit(gradient_step(centred, tx), begin, steps=8, chunk=3, **settings)
    done = fit(gradient_step(centred, tx), begin, steps=STEPS, chunk=3, **settings)
    x, mean, means, points = np.array([2.0, -1.0, 0.5]), np.zeros(3), [np.zeros(3)], []
    for number in range(STEPS):
        points.append(x)
        mean = 0.9 * mean + 0.1 * batch(number)
        x = x - RATE * (x - batch(number) + mean)
        means.append(mean)
    points.append(x)
    np.testing.assert_allclose(done.state.params["x"], x, rtol=1e-13)
    np.testing.assert_allclose(done.state.collections["batch_stats"]["mean"], mean, rtol=1e-13)
    evaluated = [4, 8, 12, STEPS]
    np.testing.assert_allclose([row["first"] for row in done.history.evaluations], [means[n][0] for n in evaluated], rtol=1e-13)
    assert done.best_step == max(evaluated, key=lambda n: means[n][0])
    for params, collections in ((done.best, done.best_collections), restore(tmp_path, "best").state[::4]):
        np.testing.assert_allclose(params["x"], points[done.best_step], rtol=1e-13)
        np.testing.assert_allclose(collections["batch_stats"]["mean"], means[done.best_step], rtol=1e-13)


@pytest.mark.parametrize(
    ("collections", "returned", "says"),
    [
        ({"batch_stats": {"mean": np.zeros(3)}}, (0.0, {}), r"has collections \(batch_stats\): the loss has to return"),
        ({}, (0.0, {}, {}), "returned 3 values, and the state has no collections"),
        ({}, (0.0, {"loss": 1.0}), "records a number named loss"),
    ],
)
def test_what_a_loss_may_return(collections: Any, returned: Any, says: str):
    state = train_state(start().params, optax.sgd(RATE), draws.key(4), collections=collections)
    with pytest.raises(ValueError, match=says):
        gradient_step(lambda *given: returned, optax.sgd(RATE))(state, 0)


def test_no_optimizer_is_said():
    """A checkpoint of a file without an optimizer's state has None."""
    for make in (lambda: gradient_step(lambda p, b, k: p.sum(), None), lambda: train_state(jnp.ones(2), None, draws.key(0))):
        with pytest.raises(ValueError, match=r"optimizer is None: .* make one, port_jax.optim.riemannian_adam"):
            make()
