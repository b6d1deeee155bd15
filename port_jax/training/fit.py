"""The loop: compiled chunks of steps on the device, and everything else on the host between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from tqdm import tqdm

from port_jax.memory import keep_pages
from port_jax.training.checkpoints import Checkpoints, Progress
from port_jax.training.history import History
from port_jax.training.state import Metrics, Step, TrainingError, TrainState

__all__ = ["Fit", "fit"]

Evaluate = Callable[[Any], Mapping[str, float]]


class Fit(NamedTuple):
    """The outcome of a run."""

    state: TrainState
    best: PyTree[Array]
    """The parameters at the best evaluation; the last ones if nothing is monitored."""
    best_step: int
    history: History
    compilations: int
    """How often the step was traced and compiled: once, unless batches change their shapes."""
    stopped: bool
    """Whether the run ended early because of `patience`."""


def fit(
    step: Step,
    state: TrainState,
    *,
    steps: int,
    batch: Any = None,
    batches: Callable[[int], Any] | None = None,
    chunk: int = 20,
    evaluate: Evaluate | None = None,
    every: int = 100,
    monitor: str | None = None,
    mode: str = "max",
    patience: int | None = None,
    folder: str | Path | None = None,
    progress: bool | None = None,
) -> Fit:
    """Run `step` until the state has made `steps` steps, and return a `Fit`. The arrays of `state` are not changed.

    On a CPU the process keeps freed memory from then on (`port_jax.memory.keep_pages`).

    Arguments:
        batch: the batch of every step, for full-batch training.
        batches: a function from the number of a step (0 for the first) to its batch, a pytree of arrays with the same
            shapes each time. It runs on the host, in a thread ahead of the device. As it depends on the number alone, an
            interrupted run gets the batches that it would have had.
        chunk: steps per call of the compiled function. Recording, bars and signals wait for the end of a chunk.
        evaluate: a function from the parameters to numbers, called every `every` steps and after the last one.
        monitor: the number that decides what is best; `mode` is "max" or "min".
        patience: stop after this many evaluations in a row without improvement.
        folder: where the latest and the best state are saved after each evaluation. A run that was saved there continues
            from its latest state, and ends with the same bits as one that was never interrupted.
        progress: whether to show a bar with loss and rate; by default on a terminal only.

    Errors: ValueError for arguments that contradict each other; TrainingError for a loss that is not finite (with the number
    of the step; the saved state is from before it), or a folder that contains another run.
    """
    _check(steps, chunk, every, batch, batches, evaluate, monitor, mode, patience)
    if jax.default_backend() == "cpu":
        keep_pages()
    checkpoints = None if folder is None else Checkpoints(folder)
    try:
        runner = _Runner(step, chunk, batch, batches)
        state, done = _begin(state, checkpoints)
        best = None
        if checkpoints is not None and done.best is not None and (found := checkpoints.restore(state, best=True)) is not None:
            best = found[0].params
        with _bar(progress, steps, int(state.step)) as bar:
            while int(state.step) < steps and not _over(done, patience):
                now = int(state.step)
                stop = min(steps, now + chunk, (now // every + 1) * every)
                state, columns = runner(state, stop, steps)
                _require_finite(columns["loss"], now)
                done.history.record(columns)
                bar.update(stop - now)
                bar.set_postfix(loss=f"{columns['loss'][-1]:.4g}", **_last(done))
                if stop % every == 0 or stop == steps:
                    improved = _evaluated(evaluate, state, done, monitor, mode)
                    if improved:
                        best = jax.tree.map(jnp.copy, state.params)
                    if checkpoints is not None:
                        if improved:
                            checkpoints.save(state, done, best=True)
                        checkpoints.save(state, done)
                    bar.set_postfix(loss=f"{columns['loss'][-1]:.4g}", **_last(done))
        last = int(state.step)
        chosen = (state.params, last) if best is None else (best, done.best_step)
        return Fit(state, *chosen, done.history, runner.compilations, last < steps)
    finally:
        if checkpoints is not None:
            checkpoints.close()


class _Runner:
    """Chunks of steps, compiled once. A chunk may be cut short: its length is an argument, not a shape."""

    def __init__(self, step: Step, chunk: int, batch: Any, batches: Callable[[int], Any] | None):
        self.compilations, self.chunk, self.batch, self.batches = 0, chunk, batch, batches
        self.ahead: tuple[int, Future] | None = None
        self.pool = None if batches is None else ThreadPoolExecutor(1)

        def run(state: TrainState, batch: Any, count: Array) -> tuple[TrainState, Metrics]:
            self.compilations += 1  # runs when JAX traces, once per shape

            def at(i: Any) -> Any:
                return batch if batches is None else jax.tree.map(lambda x: x[i], batch)

            shapes = jax.eval_shape(step, state, at(0))[1]
            empty = jax.tree.map(lambda x: jnp.zeros((chunk, *x.shape), x.dtype), dict(shapes))

            def body(i: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
                state, numbers = step(carry[0], at(i))
                return state, jax.tree.map(lambda column, x: column.at[i].set(x), carry[1], dict(numbers))

            return jax.lax.fori_loop(0, count, body, (state, empty))

        self.run = jax.jit(run, donate_argnums=0)

    def __call__(self, state: TrainState, stop: int, steps: int) -> tuple[TrainState, dict[str, np.ndarray]]:
        now = int(state.step)
        state, columns = self.run(state, self._batch(now, stop), stop - now)
        if self.pool is not None and stop < steps:  # prepare the next batch while the device is busy
            self.ahead = (stop, self.pool.submit(self._stack, stop, min(stop + self.chunk, steps)))
        return state, {name: np.asarray(values)[: stop - now] for name, values in jax.device_get(columns).items()}

    def _batch(self, now: int, stop: int) -> Any:
        if self.batches is None:
            return self.batch
        if self.ahead is not None and self.ahead[0] == now:
            return self.ahead[1].result()
        return self._stack(now, stop)

    def _stack(self, first: int, stop: int) -> Any:
        """The batches of the steps, stacked; the last one is repeated up to the length of a chunk, where it is not used."""
        assert self.batches is not None
        found = [self.batches(number) for number in range(first, stop)]
        found += found[-1:] * (self.chunk - len(found))
        return jax.tree.map(lambda *x: jnp.asarray(np.stack([np.asarray(a) for a in x])), *found)


def _begin(state: TrainState, checkpoints: Checkpoints | None) -> tuple[TrainState, Progress]:
    """The saved state of the run and its progress, or the beginning."""
    found = None if checkpoints is None else checkpoints.restore(state)
    if found is not None:
        return found
    # The compiled function consumes its state; the caller keeps the one that was passed.
    return jax.tree.map(jnp.copy, state), Progress(History(first=int(state.step)))


def _evaluated(evaluate: Evaluate | None, state: TrainState, done: Progress, monitor: str | None, mode: str) -> bool:
    """Record an evaluation, and return whether it is the best so far."""
    numbers = {} if evaluate is None else {name: float(x) for name, x in evaluate(state.params).items()}
    done.history.evaluations.append({"step": int(state.step), **numbers})
    if monitor is None:
        return False
    if monitor not in numbers:
        raise ValueError(f"monitor is {monitor!r}; evaluate returned {', '.join(numbers) or 'nothing'}")
    value = numbers[monitor]
    better = not math.isnan(value) and (done.best is None or (value > done.best if mode == "max" else value < done.best))
    done.waited = 0 if better else done.waited + 1
    if better:
        done.best, done.best_step = value, int(state.step)
    return better


def _require_finite(losses: np.ndarray, before: int) -> None:
    wrong = np.flatnonzero(~np.isfinite(losses))
    if len(wrong):
        raise TrainingError(
            f"the loss of step {before + int(wrong[0]) + 1} is {losses[wrong[0]]}; lower the learning rate, clip the gradients "
            "(port_jax.optim), or skip such steps with optax.apply_if_finite"
        )


def _over(done: Progress, patience: int | None) -> bool:
    return patience is not None and done.waited >= patience


def _last(done: Progress) -> dict[str, str]:
    """The latest evaluation, for the bar."""
    if not done.history.evaluations:
        return {}
    return {name: f"{x:.4g}" for name, x in done.history.evaluations[-1].items() if name != "step"}


def _bar(progress: bool | None, steps: int, first: int) -> Any:
    return tqdm(total=steps, initial=first, unit="step", disable=None if progress is None else not progress)


def _check(steps: int, chunk: int, every: int, batch: Any, batches: Any, evaluate: Any, monitor: str | None, mode: str, patience: Any):
    for name, value in (("steps", steps), ("chunk", chunk), ("every", every)):
        if not isinstance(value, int) or value < (0 if name == "steps" else 1):
            raise ValueError(f"{name} is {value!r}; give a positive whole number")
    if (batch is None) == (batches is None):
        raise ValueError("give either batch (the same at every step) or batches (a function of the step's number)")
    if mode not in ("max", "min"):
        raise ValueError(f"mode is {mode!r}; give 'max' or 'min'")
    if monitor is not None and evaluate is None:
        raise ValueError(f"monitor is {monitor!r}, but there is no evaluate to return it")
    if patience is not None and (monitor is None or patience < 1):
        raise ValueError(f"patience is {patience}; it counts evaluations of what monitor names ({monitor}) and has to be at least 1")
