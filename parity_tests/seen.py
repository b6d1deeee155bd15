"""Prints what the settings of this process lead to: versions, threads, instructions. `python -m parity_tests.seen`"""

import platform
import sys
from pathlib import Path

import jax

import parity_tests.conftest  # noqa: F401  the suite's own settings


def seen() -> str:
    # Whether XLA fuses a * b + c, so that it is rounded once, tells the instructions that it uses: those of SSE4_2 cannot.
    e = 2.0**-30
    fused = float(jax.jit(lambda a, b, c: a * b + c)(1 + e, 1 - e, -1.0)) != 0
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")].count("tf_XLAEigen")
    text = f"Python {platform.python_version()}, jax {jax.__version__} on {threads} threads, {'' if fused else 'not '}fused"
    if torch := sys.modules.get("torch"):
        text += f"; torch {torch.__version__} on {torch.get_num_threads()}, {torch.backends.cpu.get_cpu_capability()}"
    return text


if __name__ == "__main__":
    print(seen())
