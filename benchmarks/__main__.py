"""`python -m benchmarks [--quick] [NAME ...]`: torch beside JAX; prints the table, writes results.json and README's section Speed.

Every module of this folder with a function `cases(quick)` (or `rows(quick)`, which measures by itself) is a benchmark; without names
those of `ALL` run. Each side of a case is a process of its own, and the processes take turns. Named benchmarks replace their own rows
in results.json and leave the others.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from benchmarks import report
from benchmarks.worker import CONTEXT, PRELOADED

ALL = ("optim", "pairwise", "hgat", "hgcn", "poincare", "weights")
OTHERS = ("graphs",)
QUIET = 1.0
"""Load above which times are not worth writing down: torch's threads wait for each other."""


def main() -> None:
    """Runs the benchmarks one after another and shows each row as it comes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="torch beside JAX")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL + OTHERS)} (default: all but the last)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes; writes nothing")
    parser.add_argument("--threads", type=int, default=2, help="threads of each side (default: 2)")
    parser.add_argument("--readme", action="store_true", help="measures nothing: writes README's section from results.json")
    arguments = parser.parse_args()
    if wrong := set(arguments.names) - {*ALL, *OTHERS}:
        parser.error(f"no benchmark {', '.join(sorted(wrong))}; there are {', '.join(ALL + OTHERS)}")
    if arguments.readme:
        report.write_readme(report.section(report.load()))
        return
    console, names = Console(width=None if sys.stdout.isatty() else 190), arguments.names or ALL
    load = wait_for_quiet(console, 0.0 if arguments.quick else 90.0)
    prepare(names, arguments.threads)
    found: list[dict[str, Any]] = []
    start = time.perf_counter()
    for name in names:
        for row in rows(name, arguments.quick):
            found.append({"benchmark": name, **row})
            console.print(f"  [{time.perf_counter() - start:.0f} s] {row['work']}: {report.ratio(row) or '-'}", style="dim")
    console.print(report.table(found))
    if not arguments.quick:
        results = report.merged(found, report.machine(load, arguments.threads))
        report.save(results)
        report.write_readme(report.section(results))
        console.print(f"written to {report.RESULTS} and README.md, section Speed")


def rows(name: str, quick: bool) -> Iterator[dict[str, Any]]:
    """The rows of one benchmark, each as soon as it is measured."""
    from benchmarks.timing import measure

    module = importlib.import_module(f"benchmarks.{name}")
    if hasattr(module, "rows"):
        yield from module.rows(quick)
    else:
        yield from map(measure, module.cases(quick))


def prepare(names: Sequence[str], threads: int) -> None:
    """The surroundings of all sides alike: as many cores as threads, geoopt as it is measured everywhere here, imports made once."""
    os.environ.setdefault("PYTORCH_JIT", "0")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # torch.compile in its own process, from nothing each time: JAX keeps no compiled code between runs either
    os.environ |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    CONTEXT.set_forkserver_preload([*PRELOADED, *(f"benchmarks.{name}" for name in names)])


def wait_for_quiet(console: Console, patience: float) -> float:
    """The load of the last minute, after waiting for it to fall; says so where it does not."""
    end = time.monotonic() + patience
    while (load := os.getloadavg()[0]) > QUIET and time.monotonic() < end:
        time.sleep(5)
    if load > QUIET:
        warning = "Other processes use the cores, torch's threads starve: these times mislead"
        console.print(f"WARNING: load {load:.1f}. {warning}", style="bold red")
    return load


if __name__ == "__main__":
    main()
