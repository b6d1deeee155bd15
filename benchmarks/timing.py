"""Times of the sides of a case in turn: medians with their spread, ratios, and the floor that memory sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.case import Case
from benchmarks.worker import Worker, WorkerError, seconds

TURNS = 9
LONGEST = 25.0
"""Seconds after which a case that is slow gets no more turns; it has had three."""
PAUSE = 0.03
"""Seconds between turns, in which the threads of the last one stop waiting actively for more work."""
COMPILING = 120.0
"""Seconds that torch.compile may take."""


class Timing(NamedTuple):
    """Seconds: the median of the turns and the quartiles around it."""

    median: float
    low: float
    high: float


def measure(case: Case) -> dict[str, Any]:
    """One row: medians, ratios, goal, floor, first calls, peaks of memory.

    "torch" is torch as it comes; "kept" is the same with memory that is not given back between calls (`port_jax.memory`), as JAX has it
    here and the compiled side too.
    """
    row: dict[str, Any] = {"work": case.work}
    sides = {"torch": case.torch, "kept": case.torch, "compiled": case.compiled, "jax": case.jax}
    workers: dict[str, Worker] = {}
    try:
        for name, side in sides.items():
            if side is None:
                continue
            try:
                workers[name] = Worker(side, COMPILING if name == "compiled" else 600.0, kept=name != "torch")
            except WorkerError as error:
                if name != "compiled":
                    raise WorkerError(f"{case.work}, {name}: {error}") from None
                row["compiled_error"] = str(error)
        times = in_turn({name: worker.turn for name, worker in workers.items()}, case.scale)
        for name, worker in workers.items():
            row |= {f"{name}_ms": 1e3 * times[name].median, f"{name}_low_ms": 1e3 * times[name].low,
                    f"{name}_high_ms": 1e3 * times[name].high, f"{name}_first_s": worker.first_s,
                    f"{name}_peak_mib": worker.peak_mib, f"{name}_first_peak_mib": worker.first_peak_mib, **worker.facts}  # fmt: skip
    finally:
        for worker in workers.values():
            worker.close()
    ours = times["jax"]
    if case.torch is not None:
        best = min((times[name] for name in ("torch", "kept", "compiled") if name in times), key=lambda t: t.median)
        for name, theirs in (("eager", times["torch"]), ("best", best)):
            row |= {f"{name}_ratio": theirs.median / ours.median, f"{name}_low": theirs.low / ours.high,
                    f"{name}_high": theirs.high / ours.low}  # fmt: skip
    if case.moved is not None:
        floor = floor_seconds(case.moved)
        row |= {"floor_ms": 1e3 * floor, "times_floor": ours.median / floor}
    return row | ({} if case.goal is None else {"goal": case.goal}) | dict(case.notes)


def in_turn(turns: Mapping[str, Callable[[], float]], scale: float = 1.0) -> dict[str, Timing]:
    """Each function once in turn, several times over, so that a change in the machine's load meets all alike.

    A function returns the seconds that count; they are multiplied by `scale`.
    """
    found: dict[str, list[float]] = {name: [] for name in turns}
    start = time.perf_counter()
    for number in range(TURNS):
        for name, turn in turns.items():
            time.sleep(PAUSE)
            found[name].append(turn() * scale)
        if number >= 2 and time.perf_counter() - start > LONGEST:
            break
    return {name: Timing(*np.quantile(times, [0.5, 0.25, 0.75]).tolist()) for name, times in found.items()}


def floor_seconds(moved: int) -> float:
    """Seconds that `moved` bytes, read and written together, take at the copy bandwidth of this moment.

    The bandwidth is that of torch's copy by all threads between buffers too large for the caches; the best of seven.
    """
    import torch

    count = max(moved // 8, 1 << 25)
    source, target = torch.ones(count), torch.zeros(count)
    best = min(seconds(lambda: target.copy_(source)) for _ in range(7))
    return best * moved / (8 * count)
