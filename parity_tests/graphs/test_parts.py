"""A graph in parts on eight simulated devices gives what a whole one gives; on_parts.py has the comparisons."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parity_tests import processes

ROOT = Path(__file__).parents[2]
FAST = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
SLOW = ("training", "training explicit", "models", "models explicit hgcn gil hybonet", "bytes")


@pytest.mark.parametrize("what", ["models hgcn", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_eight_devices_give_what_one_gives(what: str):
    command, *names = what.split()
    done = subprocess.run(
        (sys.executable, "-m", "parity_tests.graphs.on_parts", command, *names),
        cwd=ROOT, env={**os.environ, "XLA_FLAGS": FAST}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


@pytest.mark.slow  # on one process above
def test_two_processes_give_what_one_device_gives():
    """Four devices each: losses, evaluations, scores of links and embeddings of a training run."""
    for told in processes.run("parity_tests.graphs.on_parts", "training", devices=4, processes=2):
        assert "training {'h'" in told
