"""Reads a pickle as plain data and inert records: nothing of the file is called."""

from __future__ import annotations

from collections.abc import Callable

from weights.files.budget import Budget
from weights.files.pickles.allowed import find
from weights.files.pickles.machine import Machine
from weights.files.pickles.opcodes import OPERATIONS


def unpickled(data: bytes | memoryview, persistent: Callable[[object], object], budget: Budget, start: int = 0) -> tuple[object, int]:
    """The object pickled in `data` from `start` on, and where its pickle ends. `persistent(id)` gives what a persistent id stands for.

    Refused if it would call anything unknown, Unreadable if it is damaged.
    """
    machine = Machine(data, find, persistent, budget, start)
    try:
        return machine.run(OPERATIONS), machine.position
    finally:
        machine.data.release()


__all__ = ["unpickled"]
