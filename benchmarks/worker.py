"""One side of a case in a process of its own, so that first calls, memory and threads are its own."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.case import Side
from port_jax.memory import keep_pages

TURN = 0.1
"""Seconds that a turn lasts at least: short work is repeated, three times or more, and the turn's median counts."""
COLD = 0.5
"""A shorter first call of a turn does not count: it finds the caches full of the other side's data."""
SLOW = 2.0
"""Seconds of a first call after which there is one more call before the turns instead of two."""
PRELOADED = ("torch", "geoopt", "geoopt.optim", "jax", "optax", "flax.linen", "port_jax.models", "port_jax.optim", "port_jax.pairwise")

CONTEXT = multiprocessing.get_context("forkserver")


class WorkerError(Exception):
    """What stopped a side: the exception's type, its first line, and the innermost place it came from; or the time limit."""


class Worker:
    """A process that has built a side and made its first calls. `first_s`, `first_peak_mib` and `peak_mib` are what they took.

    Memory is above what the process holds after its imports: `peak_mib` that of later calls, data and model included;
    `first_peak_mib` that of building, tracing and compiling as well.
    """

    first_s: float
    first_peak_mib: float
    peak_mib: float
    facts: dict[str, Any]

    def __init__(self, side: Side, limit: float = 600.0, kept: bool = False):
        self.connection, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=serve, args=(theirs, side, kept), daemon=True)
        self.process.start()
        theirs.close()
        try:
            if not self.connection.poll(limit):
                raise WorkerError(f"not ready after {limit:g} s")
            found = self.connection.recv()
        except EOFError:
            self.close()
            raise WorkerError(f"the process ended with {self.process.exitcode}") from None
        except WorkerError:
            self.close()
            raise
        if "error" in found:
            self.close()
            raise WorkerError(found["error"])
        self.first_s, self.first_peak_mib, self.peak_mib, self.facts = (
            found[name] for name in ("first_s", "first_peak_mib", "peak_mib", "facts")
        )

    def turn(self) -> float:
        """Seconds of one call in a turn of its own."""
        self.connection.send("turn")
        return self.connection.recv()

    def close(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.kill()
        self.process.join()


def serve(connection: Connection, side: Side, kept: bool) -> None:
    """The process: builds, calls, answers each "turn" until the other end closes; with `kept` its memory is not given back."""
    if kept:
        keep_pages()
    if torch := sys.modules.get("torch"):  # imported with the side, if it needs it
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    before = memory("VmRSS")
    try:
        step = side.build(*side.args)
        first = seconds(step)
        first_peak = memory("VmHWM") - before
        forget_peak()
        step()
        if first < SLOW:  # warm by now otherwise
            step()
    except Exception as error:
        connection.send({"error": described(error)})
        return
    connection.send({"first_s": first, "first_peak_mib": first_peak, "peak_mib": memory("VmHWM") - before,
                     "facts": getattr(step, "facts", {})})  # fmt: skip
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        connection.send(turn(step))


def turn(step: Callable[[], Any]) -> float:
    """Median seconds of a warm call, over three calls or more, of at least `TURN` seconds together; one call where that is long."""
    if (first := seconds(step)) > COLD:
        return first
    times: list[float] = []
    while len(times) < 3 or sum(times) < TURN:
        times.append(seconds(step))
    return statistics.median(times)


def seconds(fn: Callable[[], Any]) -> float:
    """Wall clock of one call."""
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def memory(name: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most so far."""
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) / 1024


def forget_peak() -> None:
    """Returns what compilation has freed to the kernel, and lets VmHWM begin anew."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def described(error: BaseException) -> str:
    """`Type: first line (file:line)`, of the cause where torch.compile has wrapped it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    where = "/".join(Path(place.filename).parts[-3:])
    return f"{type(error).__name__}: {lines[0] if lines else ''} ({where}:{place.lineno})"
