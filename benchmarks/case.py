"""A piece of work that both libraries do, as it is measured: who builds it, what it should reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Side(NamedTuple):
    """`build(*args)` makes the data and the model and returns a function that does the work once and waits for its result.

    It is called in a process of its own, so it has to be a function of a module, and its arguments are pickled.
    """

    build: Callable[..., Callable[[], Any]]
    args: tuple[Any, ...] = ()


class Case(NamedTuple):
    """One row of the table."""

    work: str
    torch: Side | None
    """None where torch cannot do it on this machine; `notes` says why."""
    jax: Side
    goal: float | None = None
    """The ratio torch eager / JAX to reach."""
    compiled: Side | None = None
    """The torch side under torch.compile."""
    moved: int | None = None
    """Bytes that have to be read and written, whatever the program: what the floor is computed from."""
    scale: float = 1.0
    """How many calls the work named has: an epoch, of which a call does some batches."""
    notes: Mapping[str, Any] = MappingProxyType({})
    """What else the row holds."""
