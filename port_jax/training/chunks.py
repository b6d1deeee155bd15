"""Compiled chunks of steps, and the batches for them, made ahead in a thread."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import MethodType
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from port_jax.training.state import Metrics, Step, TrainingError, TrainState, named

__all__ = ["Chunks"]


class _Made(NamedTuple):
    """The batches of a chunk: stacked, how many, and the error in place of the next one."""

    stacked: Any
    count: int
    error: BaseException | None


class _Program:
    """A chunk of steps as one compiled function. A chunk may be cut short: its length is an argument, not a shape."""

    def __init__(self, step: Callable[[], Step], chunk: int, several: bool):
        self.traces = 0

        def run(state: TrainState, batch: Any, count: Array) -> tuple[TrainState, Metrics]:
            self.traces += 1  # runs when JAX traces, once per shape
            given = step()  # an object that jit could not hash, perhaps
            one = jax.jit(lambda state, batch: given(state, batch), inline=True)  # traced once, for the shapes and for the loop

            def at(i: Any) -> Any:
                return jax.tree.map(lambda x: x[i], batch) if several else batch

            made = jax.eval_shape(one, state, at(0))
            if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], TrainState) or not isinstance(made[1], Mapping):
                raise TypeError(f"the step returned a {type(made).__name__}; it has to return the next TrainState and numbers by name")
            shapes = dict(made[1])
            if "loss" not in shapes:
                raise ValueError(f"the step returns {', '.join(shapes) or 'no numbers'}; one of its numbers has to be named loss")
            empty = jax.tree.map(lambda x: jnp.zeros((chunk, *x.shape), x.dtype), shapes)

            def body(i: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
                state, numbers = one(carry[0], at(i))
                return state, jax.tree.map(lambda column, x: column.at[i].set(x), carry[1], dict(numbers))

            return jax.lax.fori_loop(0, count, body, (state, empty))

        self.run = jax.jit(run, donate_argnums=0)


_PROGRAMS: dict[int, tuple[weakref.ref, dict[tuple, _Program]]] = {}
"""By the identity of a step, or of the object whose method it is, for as long as that lives."""


def _program(step: Step, chunk: int, several: bool) -> _Program:
    """The program of a step, the same for the same step. It does not keep the step alive, nor what the step has in its hands."""
    bound = isinstance(step, MethodType)
    owner = step.__self__ if bound else step
    name = id(owner)
    try:
        reference = weakref.WeakMethod(step) if bound else weakref.ref(step)
        kept = _PROGRAMS.get(name) or (weakref.ref(owner, lambda _: _PROGRAMS.pop(name, None)), {})
    except TypeError:  # an object without weak references: its program is not kept
        return _Program(lambda: step, chunk, several)
    _PROGRAMS[name] = kept
    key = (step.__func__ if bound else None, chunk, several)
    if key not in kept[1]:
        kept[1][key] = _Program(cast(Callable[[], Step], reference), chunk, several)
    return kept[1][key]


class Chunks:
    """Chunks of steps, compiled once, as a context in which batches are made."""

    def __init__(self, step: Step, chunk: int, batch: Any, batches: Callable[[int], Any] | None, end: Callable[[int], int]):
        self.step, self.chunk, self.batch, self.batches, self.end = step, chunk, batch, batches, end
        self.pool, self.over = None if batches is None else ThreadPoolExecutor(1), False
        self.ahead: Future[_Made] | None = None
        self.program = _program(step, chunk, batches is not None)
        self.traces_before = self.program.traces

    @property
    def compilations(self) -> int:
        """How often the step was traced and compiled since this object was made."""
        return self.program.traces - self.traces_before

    def __enter__(self) -> Chunks:
        return self

    def __exit__(self, *error: object) -> None:
        self.over = True
        if self.pool is not None:
            self.pool.shutdown()  # nobody's function is called once `fit` is left

    def __call__(self, state: TrainState) -> tuple[TrainState, dict[str, np.ndarray]]:
        """The state after the next steps, up to `end` of its number, and their numbers. An error of `batches` is raised in place of the
        first step that has no batch, when those before it are done."""
        now = int(state.step)
        made = self._made(now)
        if made.error is not None and not made.count:
            raise made.error
        state, columns = self.program.run(state, made.stacked, made.count)
        if made.error is not None:
            self.ahead = Future()
            self.ahead.set_result(_Made(None, 0, made.error))
        elif self.pool is not None and (after := self.end(now + made.count)) > now + made.count:  # while the device is busy
            self.ahead = self.pool.submit(self._stack, now + made.count, after)
        return state, {name: np.asarray(values)[: made.count] for name, values in jax.device_get(columns).items()}

    def _made(self, now: int) -> _Made:
        if self.pool is None:
            return _Made(self.batch, self.end(now) - now, None)
        return (self.ahead or self.pool.submit(self._stack, now, self.end(now))).result()

    def _stack(self, first: int, stop: int) -> _Made:
        """The last batch is repeated up to the length of a chunk, where it is not used."""
        assert self.batches is not None
        found, error = [], None
        for number in range(first, stop):
            if self.over:
                break
            try:
                found.append(jax.tree.map(lambda x: x if _is_spread(x) else np.asarray(x), self.batches(number)))
                _require_alike(found[0], found[-1], first, number)
            except Exception as raised:  # whatever it is, it is raised again after the steps before it
                error, found = raised, found[: number - first]
                break
        if not found:
            return _Made(None, 0, error)
        padded = found + found[-1:] * (self.chunk - len(found))
        return _Made(jax.tree.map(_stacked, *padded), len(found), error)


def _is_spread(x: Any) -> bool:
    """Whether an array lies on several devices: it stays there, as no process need see all of it."""
    return isinstance(x, jax.Array) and len(x.sharding.device_set) > 1


def _stacked(*arrays: Any) -> Array:
    """One batch after the other along a new first axis, split along the others as they are."""
    if not _is_spread(arrays[0]):
        return jnp.asarray(np.stack(arrays))
    lies = arrays[0].sharding
    if not isinstance(lies, NamedSharding):
        raise TrainingError(f"a batch lies on several devices by {lies}; give it a jax.sharding.NamedSharding")
    return _stack_on_devices(NamedSharding(lies.mesh, PartitionSpec(None, *lies.spec)))(arrays)


@functools.cache
def _stack_on_devices(lies: NamedSharding) -> Callable[[Any], Array]:
    return jax.jit(jnp.stack, out_shardings=lies)


def _require_alike(one: Any, other: Any, first: int, number: int) -> None:
    """Batches of one chunk are stacked: a ragged one would be an error without a name, and one of another type would change the others'."""
    a, b = ({name: f"{x.dtype}{list(x.shape)}" for name, x in named(batch).items()} for batch in (one, other))
    for name in [*a, *b]:
        if a.get(name) != b.get(name):
            raise ValueError(
                f"batch {number} differs from batch {first}{f' at {name}' if name else ''}: {b.get(name, 'missing')}, not "
                f"{a.get(name, 'missing')}; batches have one structure and one shape, so pad or leave out an incomplete one"
            )
