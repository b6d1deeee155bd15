"""Runs one side of a case in a process of its own, so that no other side affects its first calls, memory and threads."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.case import NotMeasured, Side
from benchmarks.environments import python_of
from port_jax.memory import keep_pages

TURN = 0.1
"""The least duration of a turn in seconds. Short work is repeated at least three times, and the median of the turn counts."""
COLD = 0.5
"""A first call of a turn that takes fewer seconds does not count, because the caches are full of the data of the other side."""
SLOW = 2.0
"""After a first call that takes more seconds, there is one more call before the turns instead of two."""
PRELOADED = ("torch", "geoopt", "geoopt.optim", "jax", "optax", "flax.linen", "port_jax.models", "port_jax.optim", "port_jax.pairwise")

HERE = Path(__file__).parent.parent

CONTEXT = multiprocessing.get_context("forkserver")


class WorkerError(NotMeasured):
    """The reason why a side stopped: the type, first line and innermost source line of its exception, or the time limit."""


class Worker:
    """A process that has built a side and made its first calls.

    `first_s` is the time of the first call. Peak memory is measured above what the process uses after its imports: `peak_mib` is the peak
    of later calls with data and model; `first_peak_mib` also covers building, tracing and compilation.
    """

    first_s: float
    first_peak_mib: float
    peak_mib: float
    facts: dict[str, Any]

    def __init__(self, side: Side, limit: float = 600.0, kept: bool = False):
        self.connection, theirs = CONTEXT.Pipe()
        self.process: Any = CONTEXT.Process(target=serve, args=(theirs, side, kept), daemon=True)
        if side.environment:
            self.process = Foreign(theirs, python_of(side.environment))
            self.connection.send((side, kept))
        else:
            self.process.start()
        theirs.close()
        try:
            if not self.connection.poll(limit):
                raise WorkerError(f"not ready after {limit:g} s")
            found = self.connection.recv()
        except EOFError:
            self.close()
            raise WorkerError(f"the process ended with exit code {self.process.exitcode}") from None
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
        """The seconds of one call, measured in a turn of its own."""
        self.connection.send("turn")
        return self.connection.recv()

    def close(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.kill()
        self.process.join()


class Foreign:
    """A process of another environment, which is handed its end of the connection; it answers to the names of multiprocessing's."""

    def __init__(self, theirs: Any, python: str):
        end = theirs.fileno()
        self.running = subprocess.Popen([python, "-m", "benchmarks.worker", str(end)], cwd=HERE, pass_fds=[end], stdin=subprocess.DEVNULL)
        self.kill = self.running.kill

    def join(self) -> None:
        """Waits for its end."""
        self.running.wait()

    @property
    def exitcode(self) -> int | None:
        """None as long as it runs."""
        return self.running.poll()


def serve(connection: Connection, side: Side, kept: bool) -> None:
    """The work of the process: builds the side, makes the first calls, and answers each "turn" until the other end closes.

    With `kept`, the process keeps the memory that it frees.
    """
    if kept:
        keep_pages()
    if torch := sys.modules.get("torch"):  # imported together with the side if the side needs it
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    before = memory("VmRSS")
    try:
        step = side.build(*side.args)
        first = seconds(step)
        first_peak = memory("VmHWM") - before
        forget_peak()
        step()
        if first < SLOW:  # a slow side is warm by now
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
    """The median time of a warm call over at least three calls and at least `TURN` seconds; of a single call if it is long."""
    if (first := seconds(step)) > COLD:
        return first
    times: list[float] = []
    while len(times) < 3 or sum(times) < TURN:
        times.append(seconds(step))
    return statistics.median(times)


def seconds(fn: Callable[[], Any]) -> float:
    """The wall-clock time of one call, in seconds."""
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def memory(name: str) -> float:
    """The memory of this process in MiB: VmRSS for now, VmHWM for the peak."""
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) / 1024


def forget_peak() -> None:
    """Returns the memory that compilation has freed to the kernel, and resets VmHWM."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def described(error: BaseException) -> str:
    """The exception as `Type: first line (file:line)`."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    where = "/".join(Path(place.filename).parts[-3:])
    return f"{type(error).__name__}: {lines[0] if lines else ''} ({where}:{place.lineno})"


if __name__ == "__main__":
    here = Connection(int(sys.argv[1]))
    serve(here, *here.recv())
