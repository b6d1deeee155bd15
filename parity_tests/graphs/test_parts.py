"""A graph in parts on eight simulated devices gives what a whole one gives; on_parts.py has the comparisons."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAST = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
SLOW = ("models", "operations", "explicit", "points", "bytes")


@pytest.mark.parametrize("what", ["models hgcn", "training", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_eight_devices_give_what_one_gives(what: str):
    command, *names = what.split()
    done = subprocess.run(
        (sys.executable, "-m", "parity_tests.graphs.on_parts", command, *names),
        cwd=ROOT, env={**os.environ, "XLA_FLAGS": FAST}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


@pytest.mark.slow  # as the one above
def test_two_processes_give_what_one_gives():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "XLA_FLAGS": FAST.replace("count=8", "count=2")}
    started = [
        subprocess.Popen(
            (sys.executable, "-m", "parity_tests.graphs.on_parts", "processes", str(index), port),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    told = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(told)[-3000:]
