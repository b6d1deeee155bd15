"""Eight simulated devices give what one gives; on_eight_devices.py has the comparisons."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAST = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@pytest.mark.parametrize("what", ["cotangents", pytest.param("optimizers", marks=pytest.mark.slow), "training"])
def test_eight_devices_give_what_one_gives(what: str):
    command = (sys.executable, "-m", "parity_tests.training.on_eight_devices", what)
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "XLA_FLAGS": FAST}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
