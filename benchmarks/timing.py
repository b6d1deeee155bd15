"""Times the sides of a case in turns: medians with their spread, ratios, and the floor that memory and arithmetic set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.case import Case, NotMeasured, Side
from benchmarks.worker import Worker, WorkerError, seconds

TURNS = 9
LONGEST = 25.0
"""A slow case gets no more turns after so many seconds, once it has had three."""
PAUSE = 0.03
"""Seconds between turns; in this time the threads of the last turn stop polling for more work."""
COMPILING = 120.0
"""The time limit of torch.compile, in seconds."""


class Timing(NamedTuple):
    """The median and the quartiles of the turns, in seconds."""

    median: float
    low: float
    high: float


def measure(case: Case) -> dict[str, Any]:
    """Measures one row: medians, ratios, goal, floor, first calls and peak memory.

    "torch" is eager torch with its default settings. "kept" is the same in a process that keeps freed memory between calls
    (`port_jax.memory`), as the processes of JAX and of torch.compile do.
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
        least = floor(case)
        row |= {"floor_ms": 1e3 * least, "times_floor": ours.median / least}
    goals = {"goal": case.goal, "best_goal": case.best_goal}
    return row | {name: goal for name, goal in goals.items() if goal is not None} | dict(case.notes)


def compared(work: str, theirs: Side, ours: Side, scale: float = 1.0, rounds: int = TURNS) -> dict[str, Any]:
    """Measures a row of two sides, of which the other one has no compiled form: medians, peaks, and the ratio theirs / ours.

    Both processes keep the memory that they free. A side that cannot run is the reason that the row gives.
    """
    workers: dict[str, Worker] = {}
    try:
        for name, side in (("theirs", theirs), ("jax", ours)):
            workers[name] = Worker(side, kept=True)
        times = in_turn({name: worker.turn for name, worker in workers.items()}, scale, rounds)
    except NotMeasured as why:
        return {"work": work, "not_measured": str(why)}
    finally:
        for worker in workers.values():
            worker.close()
    figures = {f"{name}_ms": 1e3 * times[name].median for name in times}
    peaks = {f"{name}_peak_mib": worker.peak_mib for name, worker in workers.items()}
    a, b = times["theirs"], times["jax"]
    return {"work": work, **figures, **peaks, "ratio": a.median / b.median, "low": a.low / b.high, "high": a.high / b.low}


def in_turn(turns: Mapping[str, Callable[[], float]], scale: float = 1.0, rounds: int = TURNS) -> dict[str, Timing]:
    """Calls each function once per round for several rounds, so that a change in the machine's load affects all of them equally.

    A function returns its time in seconds, which is multiplied by `scale`.
    """
    found: dict[str, list[float]] = {name: [] for name in turns}
    start = time.perf_counter()
    for number in range(rounds):
        for name, turn in turns.items():
            time.sleep(PAUSE)
            found[name].append(turn() * scale)
        if number >= 2 and time.perf_counter() - start > LONGEST:
            break
    return {name: Timing(*np.quantile(times, [0.5, 0.25, 0.75]).tolist()) for name, times in found.items()}


def floor(case: Case) -> float:
    """The seconds below which no program does the work of a case: its bytes at the bandwidth and its products at the rate of torch."""
    assert case.moved is not None
    return case.scale * (copy_seconds(case.moved) + product_seconds(case.multiplied))


def copy_seconds(moved: int) -> float:
    """The seconds that reading and writing `moved` bytes in total takes at the current copy bandwidth.

    The bandwidth is the best of seven copies by torch, with all threads, between buffers that do not fit into the caches.
    """
    import torch

    count = max(moved // 8, 1 << 25)
    source, target = torch.ones(count), torch.zeros(count)
    best = min(seconds(lambda: target.copy_(source)) for _ in range(7))
    return best * moved / (8 * count)


def product_seconds(multiplied: int) -> float:
    """The seconds of so many multiplications and additions in matrix products, at the rate of torch's product of square matrices."""
    import torch

    if not multiplied:
        return 0.0
    side = 1024
    a, b, out = (torch.ones(side, side) for _ in range(3))
    best = min(seconds(lambda: torch.matmul(a, b, out=out)) for _ in range(7))
    return best * multiplied / (2 * side**3)
