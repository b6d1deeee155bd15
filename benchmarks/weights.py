"""Conversion of large checkpoints: seconds and peak memory compared with torch.load and torch.save, each in a process of its own.

`python -m benchmarks weights` converts files with 1 and 2 GiB of float32 (128 MiB with --quick) in a temporary folder that needs four times
as much space. `python -m benchmarks.weights torch|convert|export FROM TO` does a single job and prints its figures.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORMS = {"folder": "out", "safetensors": "out.safetensors", "npz": "out.npz"}
ROUNDS = 3


def rows(quick: bool) -> Iterator[dict[str, Any]]:
    """Conversion to each form and export from it, compared with torch.load and torch.save; interleaved, medians of three runs."""
    for mebibytes in (128,) if quick else (1024, 2048):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            file = folder / "model.pth"
            make(file, mebibytes)
            jobs = {"torch": ("torch", file, folder / "torch.pth")}
            jobs |= {f"convert to {form}": ("convert", file, folder / out) for form, out in FORMS.items()}
            jobs |= {f"export from {form}": ("export", folder / out, folder / "back.pth") for form, out in FORMS.items()}
            found: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
            for _ in range(ROUNDS):
                for job, arguments in jobs.items():
                    found[job].append(measured(*arguments))
            seconds = {job: statistics.median(run["seconds"] for run in runs) for job, runs in found.items()}
            for job in list(jobs)[1:]:
                peak = max(run["peak_mib"] for run in found[job])
                yield {"work": f"{job}, {mebibytes} MiB", "torch_ms": 1e3 * seconds["torch"], "jax_ms": 1e3 * seconds[job],
                       "eager_ratio": seconds["torch"] / seconds[job], "goal": 0.5, "jax_peak_mib": peak, "peak_goal_mib": mebibytes + 300,
                       "torch_peak_mib": max(run["peak_mib"] for run in found["torch"])}  # fmt: skip


def make(file: Path, mebibytes: int, tables: int = 1) -> None:
    """Writes a state_dict with `mebibytes` MiB of float32, half in `tables` embedding tables and half in layers of 16 MiB."""
    import torch

    torch.manual_seed(0)
    half = mebibytes * (1 << 20) // 4 // 2
    state = {f"table{i}": torch.empty(half // tables // 64, 64).uniform_(-0.1, 0.1) for i in range(tables)}
    side = 2048
    for i in range(half // side**2):
        state[f"layer{i}.weight"] = torch.empty(side, side).uniform_(-0.1, 0.1)
    torch.save(state, file)


def measured(work: str, source: Path, target: Path) -> dict[str, float]:
    """Runs one job in a new process: its peak memory with all libraries, and its seconds without the start of Python and the imports."""
    command = [sys.executable, "-m", "benchmarks.weights", work, str(source), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    return json.loads(done.stdout)


def job(work: str, source: str, target: str) -> dict[str, float]:
    """Does the work in this process."""
    if work == "torch":
        import torch

        start = time.perf_counter()
        torch.save(torch.load(source, weights_only=True), target)
    else:
        os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
        import orbax.checkpoint  # noqa: F401

        import weights
        from weights import checkpoint  # noqa: F401

        start = time.perf_counter()
        if work == "convert":
            weights.load(source, arch="tree").save(target, overwrite=True)
        else:
            weights.export(source, target, overwrite=True)
    return {"seconds": time.perf_counter() - start, "peak_mib": peak_mib()}


def peak_mib() -> float:
    """The peak memory of this process with its libraries: the kernel's VmHWM, which child processes do not inherit."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(job(*sys.argv[1:])))
