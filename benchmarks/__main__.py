"""`python -m benchmarks [--quick] [NAME ...]`: torch beside JAX; prints the table and writes benchmarks/results.json.

Every module of this folder with a function `rows(quick)` takes part, or those named. A row is a dictionary or a NamedTuple
with `work`, `torch_ms`, `jax_ms`, `ratio`, and as far as it has them `ratio_low`, `ratio_high`, `goal`, `times_floor`,
`first_call_s`; what else it holds goes into the file.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_JIT", "0")
THREADS = 2

import jax  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

HERE = Path(__file__).parent


def main() -> None:
    """Runs the modules one after another and shows each row as it comes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="torch beside JAX, every benchmark of this folder"
    )
    parser.add_argument("names", nargs="*", help="modules of benchmarks/, without .py (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes; writes no results")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    console = Console()
    found: list[dict[str, Any]] = []
    for name in arguments.names or sorted(p.stem for p in HERE.glob("*.py")):
        if not (HERE / f"{name}.py").exists():
            parser.error(f"no benchmark {name}; there are {', '.join(sorted(p.stem for p in HERE.glob('[!_]*.py')))}")
        if name.startswith("_"):
            continue
        module = importlib.import_module(f"benchmarks.{name}")
        for row in getattr(module, "rows", lambda quick: [])(arguments.quick):
            found.append({"benchmark": name, **(row if isinstance(row, dict) else row._asdict())})
            console.print(f"  {label(found[-1])}: {row_ratio(found[-1])}", style="dim")
    console.print(table(found))
    if not arguments.quick:
        path = HERE / "results.json"
        path.write_text(json.dumps({"machine": machine(), "rows": found}, indent=1) + "\n")
        console.print(f"written to {path}")


def label(row: dict[str, Any]) -> str:
    """What was measured, and on which graph where a row names one."""
    return row["work"] + (f", {row['graph']}" if "graph" in row else "")


def row_ratio(row: dict[str, Any]) -> str:
    """torch over JAX, with its spread."""
    spread = f" ({row['ratio_low']:.1f}-{row['ratio_high']:.1f})" if "ratio_low" in row else ""
    return f"{row['ratio']:.1f}{spread}"


def table(found: list[dict[str, Any]]) -> Table:
    """Medians in milliseconds, the ratio beside its goal, the distance from the floor, the first call."""
    shown = Table("work", "torch ms", "JAX ms", "torch / JAX", "goal", "x floor", "first call s")
    for row in found:
        optional = (
            "" if row.get(key) is None else f"{row[key]:.3g}" for key in ("goal", "times_floor", "first_call_s")
        )
        shown.add_row(label(row), f"{row['torch_ms']:.2f}", f"{row['jax_ms']:.2f}", row_ratio(row), *optional)
    return shown


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    packages = ("jax", "flax", "optax", "torch", "geoopt", "numpy")
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": THREADS,
        "device": str(jax.devices()[0].device_kind),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
