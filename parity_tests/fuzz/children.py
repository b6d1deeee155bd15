"""Processes that are forked from this one, which has imported everything and started nothing: no import is made twice.

JAX begins its threads with its first array, so no array may be made before the last fork.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

PATIENCE = 600.0
"""Seconds after which a process is said to hang."""


class Ended(NamedTuple):
    """How a process ended: what its work returned (as JSON gives it back), or the error of it; `signal` if it was killed."""

    result: Any
    error: str
    signal: int
    seconds: float


class Child:
    """A process that does a piece of work, silently."""

    def __init__(self, work: Callable[[], Any], quiet: bool = True):
        output, given = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.begun = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(output)
            if quiet:
                nothing = os.open(os.devnull, os.O_RDWR)
                for stream in (0, 1, 2):
                    os.dup2(nothing, stream)
            try:
                said = [work(), ""]
            except BaseException:
                said = [None, traceback.format_exc()]
            os.write(given, json.dumps(said).encode()[: 1 << 15])
            os._exit(0)
        os.close(given)
        self.output = output

    def ended(self) -> bool:
        """Whether it has; it is then still to be waited for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self) -> None:
        """SIGKILL, at once."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> Ended:
        """Waits for its end. RuntimeError if it does not come."""
        while not self.ended():
            if time.monotonic() - self.begun > PATIENCE:
                self.kill()
                os.waitpid(self.pid, 0)
                raise RuntimeError(f"a process has not ended after {PATIENCE} seconds")
            time.sleep(0.002)
        _, status = os.waitpid(self.pid, 0)
        with os.fdopen(self.output, "rb") as pipe:
            text = pipe.read()
        result, error = json.loads(text) if text else (None, "")
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return Ended(result, error, number, time.monotonic() - self.begun)


def done(work: Callable[[], Any]) -> Any:
    """What a piece of work returns that is done in a process of its own. RuntimeError with its traceback if it fails."""
    ended = Child(work).wait()
    if ended.error or ended.signal:
        raise RuntimeError(ended.error or f"the process ended with signal {ended.signal}")
    return ended.result
