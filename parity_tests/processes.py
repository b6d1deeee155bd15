"""Programs of the suite in several processes on this machine, with simulated devices in each."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def run(module: str, *arguments: str, devices: int, processes: int = 1, by_variables: bool = False) -> list[str]:
    """What each process prints. `module` gets the arguments, and of several processes their number, its own and a port behind them, or
    in variables."""
    flags = f"--xla_force_host_platform_device_count={devices} {FAST}"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", module, *arguments]
    started = []
    for n in range(processes):
        more, environment = [], {**os.environ, "XLA_FLAGS": flags}
        if processes > 1 and by_variables:
            environment |= {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": str(processes), "JAX_PROCESS_ID": str(n)}
        elif processes > 1:
            more = [str(processes), str(n), str(port)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen([*command, *more], cwd=ROOT, env=environment, **pipes))
    told = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0] * processes, "\n".join(told)[-3000:]
    return told


def begin(count: str, index: str, port: str) -> None:
    """In each of several processes, before anything else."""
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", int(count), int(index))
