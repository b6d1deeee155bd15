"""`python -m benchmarks [--quick] [NAME ...]` times torch and JAX side by side, prints tables, and writes results.json and docs/speed.md.

A benchmark is a module of this folder that has a function `cases(quick)`, a function `rows(quick)` that measures by itself, or both.
Without names the benchmarks in `ALL` run. Each side of a case runs in a process of its own, and the processes take turns. The rows of a
benchmark replace its rows of the same machine in results.json as soon as it has ended; other benchmarks and machines stay as they are. What
cannot be measured has a row that says why.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import report
from benchmarks.case import NotMeasured
from benchmarks.tables import cells
from benchmarks.worker import CONTEXT, PRELOADED

ALL = ("startup", "optim", "adam", "pairwise", "hgat", "hgcn", "architectures", "poincare", "peers", "weights", "growth")
OTHERS = ("graphs", "helm", "hypformer", "images", "meru", "tidhy")
QUIET = 1.0
"""The load average above which times are not reliable, because the threads of torch wait for each other."""


def main() -> None:
    """Runs the benchmarks one after another and prints each row as soon as it is measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Times torch and JAX side by side.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"a benchmark: {', '.join(ALL + OTHERS)} (default: all except {', '.join(OTHERS)})"
    )
    parser.add_argument("--quick", action="store_true", help="use smaller sizes and write no files")
    parser.add_argument("--threads", type=int, default=2, help="threads of each side (default: 2)")
    parser.add_argument("--page", action="store_true", help="measure nothing; write the tables of docs/speed.md from results.json")
    arguments = parser.parse_args()
    if wrong := set(arguments.names) - {*ALL, *OTHERS}:
        parser.error(f"unknown benchmark: {', '.join(sorted(wrong))}; choose from {', '.join(ALL + OTHERS)}")
    if arguments.page:
        show(report.load())
        return
    console, names = Console(width=None if sys.stdout.isatty() else 190), arguments.names or ALL
    load = wait_for_quiet(console, 0.0 if arguments.quick else 90.0)
    prepare(names, arguments.threads)
    machine = report.machine(load, arguments.threads)
    found: list[dict[str, Any]] = []
    start = time.perf_counter()
    for name in names:
        for row in rows(name, arguments.quick):
            found.append({"benchmark": name, **row})
            console.print(f"  [{time.perf_counter() - start:.0f} s] {', '.join(filter(None, cells(found[-1])))}", style="dim")
        if not arguments.quick:
            report.save(report.merged(found, machine))
    for shown in report.tables(found):
        console.print(shown)
    for row in found:
        if "not_measured" in row:
            console.print(f"not measured: {row['work']}: {row['not_measured']}", style="bold red", markup=False)
    if not arguments.quick:
        console.print(f"Wrote {report.RESULTS}, {', '.join(map(str, show(report.load())))}.")


def show(results: dict[str, Any]) -> list[Path]:
    """Writes docs/speed.md and its plots."""
    report.write_page(report.section(results))
    return [report.PAGE, *report.draw(results)]


def rows(name: str, quick: bool) -> Iterator[dict[str, Any]]:
    """Yields the rows of one benchmark, each as soon as it is measured."""
    from benchmarks.timing import measure

    module = importlib.import_module(f"benchmarks.{name}")
    for case in module.cases(quick) if hasattr(module, "cases") else ():
        try:
            yield measure(case)
        except NotMeasured as why:
            yield {"work": case.work, "not_measured": str(why)}
    if hasattr(module, "rows"):
        yield from module.rows(quick)


def prepare(names: Sequence[str], threads: int) -> None:
    """Gives all sides the same environment: as many cores as threads, geoopt without TorchScript, and modules that are imported once."""
    os.environ.setdefault("PYTORCH_JIT", "0")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # torch.compile works in its own process and without its cache, because JAX keeps no compiled code between runs either.
    os.environ |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    CONTEXT.set_forkserver_preload([*PRELOADED, *(f"benchmarks.{name}" for name in names)])


def wait_for_quiet(console: Console, patience: float) -> float:
    """Waits up to `patience` seconds for the load of the last minute to fall; returns the load, and warns if it is still too high."""
    end = time.monotonic() + patience
    while (load := os.getloadavg()[0]) > QUIET and time.monotonic() < end:
        time.sleep(5)
    if load > QUIET:
        warning = "Other processes are using the cores, so these times are not reliable."
        console.print(f"WARNING: load {load:.1f}. {warning}", style="bold red")
    return load


if __name__ == "__main__":
    main()
