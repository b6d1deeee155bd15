"""A piece of work that both libraries do: how each side is built, and which ratio is the goal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class NotMeasured(Exception):
    """Why a figure could not be measured; its row says so, and the run goes on."""


class Side(NamedTuple):
    """`build(*args)` makes the data and the model and returns a function that does the work once and waits for its result.

    It is called in a process of its own, so it must be a function at the top level of a module, and its arguments are pickled.
    """

    build: Callable[..., Callable[[], Any]]
    args: tuple[Any, ...] = ()
    environment: str = ""
    """A name in `benchmarks.environments`, if the side needs another environment than the project's."""


class Case(NamedTuple):
    """One row of the table."""

    work: str
    torch: Side | None
    """None if torch cannot do the work on this machine; `notes` says why."""
    jax: Side
    goal: float | None = None
    """The ratio of eager torch to JAX that the project aims for."""
    compiled: Side | None = None
    """The torch side under torch.compile."""
    moved: int | None = None
    """The bytes that any program has to read and write for this work; the floor is computed from them."""
    scale: float = 1.0
    """How many calls make up the work that the row names: a call may do a few batches of an epoch."""
    best_goal: float | None = None
    """The ratio of the fastest torch side to JAX that the project aims for."""
    multiplied: int = 0
    """The multiplications and additions of its matrix products, which add to the floor."""
    notes: Mapping[str, Any] = MappingProxyType({})
    """Further entries of the row in results.json."""
