"""The loop: compiled chunks of steps on the device, and everything else on the host between them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from tqdm import tqdm

from port_jax.arguments import PATH, TEXT, TRUTH, Kind, instance, one_of, optional, takes, whole
from port_jax.memory import keep_pages
from port_jax.training.checkpoints import Checkpoints, Progress
from port_jax.training.chunks import Chunks
from port_jax.training.finite import lost, nonfinite
from port_jax.training.history import History
from port_jax.training.plan import Plan
from port_jax.training.sparse import SparseStep
from port_jax.training.state import ARRAYS, STATE, STEP, Step, TrainingError, TrainState

__all__ = ["Fit", "fit"]

SLOW = 4.0
"""From so many seconds of compilation on, `fit` says how to keep what is compiled."""
_SMALL = re.compile(r"loss|nll|error|perplexity|rank|\bm[as]e\b|\brmse\b", re.IGNORECASE)
"""What in a name says that small is good."""
Evaluate = Callable[..., Mapping[str, float]]


class Fit(NamedTuple):
    """The outcome of a run."""

    state: TrainState
    best: PyTree[Array]
    """The parameters at the best evaluation; the last ones if nothing is monitored."""
    best_step: int
    history: History
    compilations: int
    """How often the step was traced and compiled: once, unless batches change their shapes, and never if an earlier call had done so."""
    stopped: bool
    """Whether the run ended early: because of `patience`, or with the last good state where a later one was not finite."""
    best_collections: Mapping[str, PyTree[Array]] = {}
    """The collections at the best evaluation."""


@takes(
    step=STEP,
    state=STATE,
    steps=whole(0),
    batch=optional(ARRAYS),
    batches=optional(Kind(callable, "a function from the number of a step to its batch")),
    chunk=whole(1),
    evaluate=optional(Kind(callable, "a function from the parameters to numbers by name")),
    every=whole(1),
    monitor=optional(TEXT),
    mode=optional(one_of("max", "min")),
    patience=optional(whole(1)),
    folder=optional(PATH),
    progress=optional(TRUTH),
    plan=optional(instance("a port_jax.training.Plan", Plan)),
)
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
    mode: str | None = None,
    patience: int | None = None,
    folder: str | Path | None = None,
    progress: bool | None = None,
    plan: Plan | None = None,
) -> Fit:
    """Run `step` until the state has made `steps` steps, and return a `Fit`. The arrays of `state` are not changed.

    The step is compiled for the shapes that it meets, and a later call with the same step and shapes compiles nothing. As with
    `jax.jit`, it is the function that is remembered: what it reads from elsewhere must not change. On a CPU the process keeps freed
    memory from then on (`port_jax.memory.keep_pages`).

    Arguments:
        batch: the batch of every step, for full-batch training.
        batches: a function from the number of a step (0 for the first) to its batch, a pytree of arrays with the same
            shapes each time. It runs on the host, in a thread ahead of the device, and makes each batch once, in order. As it
            depends on the number alone, an interrupted run gets the batches that it would have had.
        chunk: steps per call of the compiled function. Recording, bars and signals wait for the end of a chunk.
        evaluate: a function from the parameters (and the collections, if the state has any) to numbers by name. It is called every
            `every` steps and after the last one, and once before the first, where only its names are checked.
        monitor: the number that decides what is best.
        mode: whether the largest ("max", the default) or the smallest ("min") is the best. It has to be given if the name of the
            monitored number says that it is a loss or an error.
        patience: stop after this many evaluations in a row without improvement.
        folder: where the state is saved at the start, after each evaluation, and before an error of `batches` or `evaluate` or an
            interrupt goes on. The two latest states and the best one are kept; `restore` reads them. A run that was saved there
            continues from its latest state, and evaluates where one that was never interrupted would have: the evaluation at an end
            that is no multiple of `every` is dropped when a later call goes further. It also ends with the same bits, on the same kind of
            device and with the same number of threads, compiler flags and versions, if a step gives the same bits when it is repeated
            (on a GPU, sums over edges may not).
        progress: whether to show a bar with loss and rate; by default on a terminal only, and in the first process.
        plan: how the run lies on several devices. The state is put where it says, also where it is read from `folder`; of `batches`, each
            array's rows are divided (each process gives its own), and `batch` is on every device, except for arrays that are divided
            already, such as those of a graph in parts. A `sparse_step` has its plan already.

    What is kept is finite: at each evaluation, and so before each save and at the end, the parameters, the optimizer's state and the
    collections are reduced on the device to one flag per array. An array may contain as many NaN or infinite elements as in the
    given `state`, since a best value so far begins as infinity and a mask may contain it; one more is an error.

    Errors: ValueError for arguments that contradict each other, or an evaluation whose name the history uses itself (`step`, and
    `train/...`). TrainingError, with the last good state and its place, for a loss or a state that is not finite, with the number of
    the step and the name of the array (without `folder`, where the error would lose that state, it is returned, `stopped` is true, and a
    RuntimeWarning says so; a copy of it is on the device from each evaluation on); also if `steps` are fewer than the state or the folder
    has made, if the folder contains another run (a shape, a type, or what is monitored differs), if another process saves in it, or if it
    cannot be written.
    """
    mode = _mode(monitor, mode)
    _check(batch, batches, evaluate, monitor, patience)
    sparse = step if isinstance(step, SparseStep) else None
    if sparse is not None:
        plan = sparse.require(plan)
    made = _checked(batches, plan, sparse, state)
    if sparse is not None and batch is not None:
        sparse.check(state.params, batch)
    if plan is not None:
        state, batch = plan.place(state), None if batch is None else plan.repeated(batch)
    inside, outside = (_same, _same) if sparse is None else (sparse.shuffled, sparse.unshuffled)
    state = inside(state)
    if jax.default_backend() == "cpu":
        keep_pages()
    with contextlib.nullcontext() if folder is None else Checkpoints(folder) as checkpoints:
        # The compiled function consumes its state; the caller keeps the one that was passed.
        run = _Run(_copy(state), state, checkpoints, steps, every, evaluate, monitor, mode, patience, inside, outside)
        run.begin()
        chunks = Chunks(step, chunk, batch, made, end=lambda now: min(steps, now + chunk, (now // every + 1) * every))
        with chunks, _bar(progress, steps, run.now) as bar, run.kept_on_errors():
            run.evaluate_if_due()
            while run.now < steps and not run.over:
                begun, compiled = time.monotonic(), chunks.compilations
                run.advance(chunks)
                if chunks.compilations > compiled and (hint := _hint(time.monotonic() - begun)) and not bar.disable:
                    bar.write(hint, file=sys.stderr)
                bar.update(run.now - bar.n)
                bar.set_postfix(run.shown())
                run.evaluate_if_due()
                bar.set_postfix(run.shown())
        return run.result(chunks.compilations)


@dataclasses.dataclass
class _Run:
    """The state of a run, and what is known about it on the host."""

    state: TrainState
    good: TrainState
    """The last one that was looked at, if there is no folder; no step consumes it."""
    checkpoints: Checkpoints | None
    steps: int
    every: int
    evaluate: Evaluate | None
    monitor: str | None
    mode: str
    patience: int | None
    inside: Callable[[TrainState], TrainState]
    """The rows of a state in the order of the steps, which only `state` and `good` have."""
    outside: Callable[[TrainState], TrainState]
    """The rows in their own order, as evaluations, files and results have them."""

    def begin(self) -> None:
        """Go to the latest saved state, or save this one. Everything that can be refused is, before the first step."""
        self.allowed, self.broken = nonfinite(self.state), False
        found = None if self.checkpoints is None else self.checkpoints.restore(self.state)
        new = Progress(History(first=int(self.state.step)), monitor=self.monitor, mode=self.mode)
        self.state, self.done = (self.state, new) if found is None else (self.inside(found[0]), found[1])
        self.now = int(self.state.step)
        self._require_what_was_saved()
        if self.done.before is not None and self.now < self.steps and self.now % self.every:
            self.done = _without_the_last(self.done)
        if self.now < self.steps and not self.done.history.evaluations:
            self._numbers(self.outside(self.state))
        if self.checkpoints is not None and found is None:
            self.checkpoints.save(self.outside(self.state), self.done)
        self.best = self._best()

    @property
    def over(self) -> bool:
        """Whether nothing has improved for too long, or a state was lost."""
        return self.broken or (self.patience is not None and self.done.waited >= self.patience)

    def advance(self, chunks: Chunks) -> None:
        """Make the steps of a chunk, and record them."""
        state, columns = chunks(self.state)
        wrong = np.flatnonzero(~np.isfinite(columns["loss"]))
        if len(wrong):
            self._fail(f"the loss of step {self.now + int(wrong[0]) + 1} is {columns['loss'][wrong[0]]}")
            return
        self.state, self.now = state, int(state.step)
        self.done.history.record(columns)

    def evaluate_if_due(self) -> None:
        """Evaluate and save the state at a multiple of `every` and at the end, unless that is done."""
        if self.broken:
            return
        evaluations, off = self.done.history.evaluations, self.now % self.every != 0
        if self.now == (evaluations[-1]["step"] if evaluations else self.done.history.first) or (off and self.now != self.steps):
            return
        if wrong := lost(self.state, self.allowed):
            self._fail(f"after step {self.now}, {wrong}")
            return
        shown = self.outside(self.state)
        numbers = self._numbers(shown)
        history = dataclasses.replace(self.done.history, evaluations=[*evaluations, {"step": self.now, **numbers}])
        done = dataclasses.replace(self.done, history=history, before=self.done.judged if off else None)
        if self.monitor is not None:
            value = numbers[self.monitor]
            better = done.best is None or (value > done.best if self.mode == "max" else value < done.best)
            done.waited += 1
            if better and not math.isnan(value):
                done.best, done.best_step, done.waited = value, self.now, 0
                self.best = _kept(shown)
        self.done = done  # at once: an interrupt saves either what was before or what is after
        if self.checkpoints is not None:
            self.checkpoints.save(shown, self.done)
        elif self.now < self.steps:
            self.good = _copy(self.state)

    @contextlib.contextmanager
    def kept_on_errors(self) -> Iterator[None]:
        """Save the finished steps before an error of somebody else's function, or an interrupt, goes on."""
        try:
            yield
        except TrainingError:
            raise
        except BaseException as error:
            if self.checkpoints is not None:
                error.add_note(f"fit: {self._rescued(self.checkpoints)}")
            raise

    def result(self, compilations: int) -> Fit:
        """What `fit` returns."""
        state = self.outside(self.state)
        params, collections = self.best or (state.params, state.collections)
        at = self.now if self.best is None else self.done.best_step
        return Fit(state, params, at, self.done.history, compilations, self.now < self.steps, collections)

    def shown(self) -> dict[str, str]:
        """The latest numbers, for the bar."""
        losses, evaluations = self.done.history.steps.get("loss"), self.done.history.evaluations
        last = {**({"loss": losses[-1]} if losses else {}), **(evaluations or [{}])[-1]}
        return {name: f"{x:.4g}" for name, x in last.items() if name != "step"}

    def _numbers(self, state: TrainState) -> dict[str, float]:
        """What `evaluate` says of the state, whose rows are in their own order."""
        found = {} if self.evaluate is None else self.evaluate(state.params, *state.extra)
        if not isinstance(found, Mapping):
            raise ValueError(f"evaluate returned {found!r:.100}; it has to return numbers by name, such as {{'auc': 0.9}}")
        for name in found:
            if not isinstance(name, str) or name == "step" or name.startswith("train/"):
                raise ValueError(f"evaluate returned a number named {name!r}, a name that the history uses itself: give it another name")
        if self.monitor is not None and self.monitor not in found:
            raise ValueError(f"monitor is {self.monitor!r}; evaluate returned {', '.join(found) or 'nothing'}")
        return {name: float(x) for name, x in found.items()}

    def _best(self) -> tuple[Any, Any] | None:
        """The best parameters and collections so far."""
        if self.done.best is None or self.checkpoints is None:
            return None
        if self.done.best_step == self.now:
            return _kept(self.outside(self.state))
        found = self.checkpoints.restore(self.state, self.done.best_step)
        return None if found is None else (found[0].params, found[0].collections)

    def _require_what_was_saved(self) -> None:
        """Raise TrainingError if the state is beyond the end, or the best so far was chosen otherwise."""
        where = "the given state" if self.checkpoints is None else f"the run in {self.checkpoints.folder}"
        if self.now > self.steps:
            raise TrainingError(
                f"steps is {self.steps}, but {where} has made {self.now}; give at least {self.now}, or another "
                f"{'state' if self.checkpoints is None else 'folder'}"
            )
        was = self.done.monitor, self.done.mode
        if self.done.monitor is not None and was != (self.monitor, self.mode):
            raise TrainingError(
                f"{where} chose its best state by monitor={was[0]!r}, mode={was[1]!r}; here they are {self.monitor!r} and {self.mode!r}: "
                "give the same, or another folder"
            )
        self.done.monitor, self.done.mode = self.monitor, self.mode

    def _fail(self, what: str) -> None:
        """Raise TrainingError where the last good state is in a folder. An error would lose it elsewhere: the run ends there and warns."""
        advice = "lower the learning rate, clip the gradients or skip such steps (port_jax.optim.guard)"
        if self.checkpoints is not None:
            raise TrainingError(f"{what}; {advice}; {self.checkpoints.place()}")
        self.state, self.now, self.broken = self.good, int(self.good.step), True
        made = self.now - self.done.history.first
        self.done.history.steps = {name: column[:made] for name, column in self.done.history.steps.items()}
        message = f"{what}; {advice}. The run ends with its last good state, of step {self.now}; with folder= it would be kept on the disk"
        warnings.warn(message, RuntimeWarning, stacklevel=4)

    def _rescued(self, checkpoints: Checkpoints) -> str:
        """Save the state, if it is whole (an interrupt may have come in the middle of a chunk), and say what is on disk."""
        made = self.now - self.done.history.first
        whole = all(len(column) == made for column in self.done.history.steps.values())
        whole = whole and not any(x.is_deleted() for x in jax.tree.leaves(self.state))
        if whole and not lost(self.state, self.allowed):
            try:
                checkpoints.save(self.outside(self.state), self.done)
                checkpoints.wait()
            except TrainingError as failure:
                return str(failure)
        return f"{checkpoints.place()}; the same call goes on from there"


def _same(state: TrainState) -> TrainState:
    return state


def _checked(
    batches: Callable[[int], Any] | None, plan: Plan | None, sparse: SparseStep | None, state: TrainState
) -> Callable[[int], Any] | None:
    """The batches, with the rows that they name looked at, and divided as the plan says."""
    if batches is None or (plan is None and sparse is None):
        return batches
    tables = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), state.params)

    def made(number: int) -> Any:
        batch = batches(number)
        if sparse is not None:
            sparse.check(tables, batch)
        return batch if plan is None else plan.batch(batch)

    return made


def _without_the_last(done: Progress) -> Progress:
    """Before an evaluation that took place only because a run ended there: one that is longer does not make it."""
    assert done.before is not None
    best, best_step, waited = done.before
    history = dataclasses.replace(done.history, evaluations=done.history.evaluations[:-1])
    return dataclasses.replace(done, history=history, best=best, best_step=best_step, waited=waited, before=None)


def _kept(state: TrainState) -> tuple[Any, Any]:
    """The parameters and the collections, in arrays that the next step does not consume."""
    return _copy((state.params, state.collections))


@jax.jit
def _copy(tree: Any) -> Any:
    """New arrays, by one program: one for each shape takes longer to compile."""
    return jax.tree.map(jnp.copy, tree)


def _hint(seconds: float) -> str | None:
    """What to say of a chunk that was compiled for so long; None where the next process need not wait as long."""
    if seconds < SLOW or jax.config.values["jax_compilation_cache_dir"]:
        return None
    return (
        f"The first steps took {seconds:.0f} s, most of it compilation. With port_jax.compilation_cache() before the first computation, "
        "the next process finds what is compiled."
    )


def _bar(progress: bool | None, steps: int, first: int) -> Any:
    hidden = True if jax.process_index() else None
    return tqdm(total=steps, initial=first, unit="step", disable=hidden if progress is None else not progress)


def _mode(monitor: str | None, mode: str | None) -> str:
    """The mode, which nobody guesses where the name speaks against the default."""
    if mode is None and monitor is not None and _SMALL.search(monitor):
        raise ValueError(f"monitor is {monitor!r}, and mode is not given: give mode='min' if the smallest is the best, or mode='max'")
    return mode or "max"


def _check(batch: Any, batches: Any, evaluate: Any, monitor: str | None, patience: Any):
    if (batch is None) == (batches is None):
        raise ValueError(
            "give either batch (the same at every step) or batches (a function of its number); batch=() if the loss takes no data"
        )
    if monitor is not None and evaluate is None:
        raise ValueError(f"monitor is {monitor!r}, but there is no evaluate to return it")
    if patience is not None and monitor is None:
        raise ValueError(f"patience is {patience}; it counts evaluations of what monitor names, and monitor is None")
