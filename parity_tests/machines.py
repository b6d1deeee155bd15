"""Runs the suite as other machines would: other instructions, threads, orders, seeds, places and versions.

    python -m parity_tests.machines [NAME ...]

A name is that of a part (isa) or of a row (python-3.12); without names all rows run. Each row leaves a log and its result in
out/machines/. One that passed at the same commit with the same options is not run again, so that the whole may be done in parts. Exit
code: 1 if a row that was asked for failed, else 0. PYTEST_ADDOPTS reaches every run: PYTEST_ADDOPTS='-m ""' adds the cases of
`make test-slow`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.environments import interpreter, works

HOME = Path(__file__).parents[1]
OUT = HOME / "out" / "machines"
PYTEST = (sys.executable, "-m", "pytest")
CORE = ("parity_tests/test_linalg.py", *(f"parity_tests/{name}" for name in ("manifolds", "optim", "graphs", "layers")))
WHOLE = (*PYTEST, "-n", "2")


@dataclass(frozen=True)
class Place:
    """Where commands run: the folder, what is put before each command, and variables on top of the row's."""

    folder: Path = HOME
    prefix: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def _copy(folder: Path) -> Path:
    """The sources alone: no repository, no virtual environment, no caches."""
    left = (".git", ".venv", ".cache", ".*_cache", ".hypothesis", "__pycache__", "out", "build", "*.egg-info")
    return shutil.copytree(HOME, folder, ignore=shutil.ignore_patterns(*left))


def spaced(scratch: Path) -> Place:
    folder = _copy(scratch / "a path with spaces" / "hyper port")
    if (HOME.parent / "shared").exists():
        (folder.parent / "shared").symlink_to(HOME.parent / "shared")
    return Place(folder)


def alone(scratch: Path) -> Place:
    """A copy without ../shared; the installed project is the original, so the path has to say which is meant."""
    folder = _copy(scratch / "alone" / "hyperport")
    return Place(folder, variables={"PYTHONPATH": str(folder)})


def read_only(scratch: Path) -> Place:
    """The sources on a read-only mount that only the row's processes see: it refuses to write for root as well."""
    unshare = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--mount", "--map-root-user")
    return Place(HOME, (*unshare, "sh", "-c", 'mount --bind -o ro "$0" "$0" && cd "$0" && exec "$@"', str(HOME)))


@dataclass(frozen=True)
class Row:
    """Commands in an environment. A variable that is None is taken away; `missing` says why this machine cannot run the row."""

    parts: tuple[str, ...]
    name: str
    commands: tuple[tuple[str, ...], ...]
    variables: Mapping[str, str | None] = field(default_factory=dict)
    where: Callable[[Path], Place] = lambda scratch: Place()
    python: str = sys.executable
    missing: str = ""


@dataclass
class Result:
    name: str
    commit: str
    options: str = ""
    """PYTEST_ADDOPTS, by which a row may be of a part of the suite only."""
    seen: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    wall: float = 0.0
    processor: float = 0.0
    failing: list[str] = field(default_factory=list)

    def count(self, report: Path) -> None:
        """Adds what pytest wrote as JUnit's XML."""
        for case in ElementTree.parse(report).iter("testcase"):
            outcome = {child.tag for child in case}
            if outcome & {"failure", "error"}:
                self.failed += 1
                self.failing.append(f"{case.get('classname')}::{case.get('name')}".lstrip(":"))
            elif "skipped" in outcome:
                self.skipped += 1
            else:
                self.passed += 1


def rows() -> list[Row]:
    """All rows, with those that this machine cannot run.

    Each seed runs the whole suite once, and each on another machine; where a row fails, `HYPERPORT_SEED` alone tells which of the two
    it was. Instructions and files alone take the subjects that compute.
    """
    both = (("make", "test"), ("make", "demo", "OUT=SCRATCH/out"))
    no_mounts = "" if works(*read_only(HOME).prefix, "true") else "no read-only mounts: unshare is not there or not allowed"
    speechless = {"LANG": "C", "LC_ALL": None, "LC_CTYPE": None, "PYTHONUTF8": None, "PYTHONIOENCODING": None}
    own = (("make", "demo", f"PYTHON={sys.executable}"), ("make", "test"))
    seeds = [
        Row((), "plain", (("make", "test"),)),
        Row(("home", "lang"), "no-home-and-lang-c", both, {"HOME": None, **speechless}),
        Row(("read-only",), "read-only", both, where=read_only, missing=no_mounts),
        Row(("spaces",), "spaces", own, where=spaced, python=".venv/bin/python"),
        Row(("shared",), "no-shared", (WHOLE,), where=alone),
        Row(("order",), "random-order", ((*WHOLE, "--random-order", "--random-order-seed=11"),)),
        *(_threads(torch, xla) for torch, xla in itertools.product("12", "12") if (torch, xla) != ("1", "2")),
        Row(("worker",), "one-worker", ((*PYTEST, "-n", "0"),)),
    ]
    made = [
        replace(row, parts=("seeds", *row.parts), name=f"seed-{seed}-{row.name}", variables={**row.variables, "HYPERPORT_SEED": str(seed)})
        for seed, row in enumerate(seeds)
    ]

    info = Path("/proc/cpuinfo")
    processor = info.read_text().split() if info.exists() else []
    lacks = {flag: "" if flag in processor else f"the processor has no {flag}" for flag in ("sse4_2", "avx2", "avx512f")}
    # Instead of conftest's flags: without optimization XLA fuses nothing, and all instructions give the same bits. The last one that a
    # processor has is the code that users get.
    for isa, capability, flag in (("SSE4_2", "default", "sse4_2"), ("AVX2", "avx2", "avx2"), ("AVX512", "avx512", "avx512f")):
        variables = {"XLA_FLAGS": f"--xla_cpu_max_isa={isa}", "ATEN_CPU_CAPABILITY": capability}
        made.append(Row(("isa", "aten"), f"isa-{isa}-aten-{capability}", ((*WHOLE, *CORE),), variables, missing=lacks[flag]))
    files = sorted(path for name in CORE for path in [HOME / name, *(HOME / name).rglob("*.py")] if path.name.startswith("test_"))
    made.append(Row(("long",), "long", ((*WHOLE, "-m", "long"),)))
    made.append(Row(("files",), "files", tuple((*PYTEST, str(path.relative_to(HOME))) for path in files)))

    found = {version: interpreter(version) for version in ("3.13", "3.12")}
    for version, python in found.items():
        missing = "" if python else f"Python {version} is not on this machine"
        made.append(_versions(f"python-{version}", python, (), missing))
    newest = next(filter(None, found.values()), sys.executable)
    made.append(_versions("python-newest-jax", newest, ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint"), ""))
    return made


def _threads(torch: str, xla: str) -> Row:
    # XLA splits work by the number of threads when it compiles, and the key of its cache does not have that number.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(OUT / f"compiled-{xla}")} if xla == "1" else {}
    variables = {"HYPERPORT_TORCH_THREADS": torch, "NPROC": xla, **cache}
    return Row(("threads",), f"threads-torch-{torch}-jax-{xla}", (WHOLE,), variables)


def _versions(name: str, python: str, upgraded: tuple[str, ...], missing: str) -> Row:
    """Another Python, or newer packages, in an environment of its own and without torch."""
    venv = f"out/machines/{name}"
    settings = (f"VENV={venv}", "TORCH=no")
    upgrade = ((f"{venv}/bin/python", "-m", "pip", "install", "--quiet", "--upgrade", *upgraded),) if upgraded else ()
    commands = (("make", "setup", f"PYTHON={python}", *settings), *upgrade, ("make", "test", *settings))
    return Row(("python",), name, commands, python=f"{venv}/bin/python", missing=missing)


def run(row: Row, commit: str, log: IO[str]) -> Result:
    """Runs all of a row's commands in turn, whatever the ones before gave, and counts their tests."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    result = Result(row.name, commit, os.environ.get("PYTEST_ADDOPTS", ""))
    with tempfile.TemporaryDirectory(prefix="machines_") as scratch:
        place = row.where(Path(scratch))
        variables = {**os.environ, **row.variables, **place.variables}
        # This run's own `make` must not pass its arguments on to theirs.
        variables = {key: value for key, value in variables.items() if value is not None and key not in ("MAKEFLAGS", "MFLAGS")}
        given = variables.get("PYTEST_ADDOPTS", "")

        def call(command: tuple[str, ...], output: int) -> subprocess.CompletedProcess[str]:
            log.write(f"$ {shlex.join(command)}\n")
            log.flush()
            command = (*place.prefix, *command)
            return subprocess.run(command, cwd=place.folder, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=log, text=True)

        for number, command in enumerate(row.commands):
            report, failures = Path(scratch, f"{number}.xml"), result.failed
            variables["PYTEST_ADDOPTS"] = f"{given} --junitxml={shlex.quote(str(report))}"
            done = call(tuple(part.replace("SCRATCH", scratch) for part in command), log.fileno())
            if report.exists():
                result.count(report)
            all_slow = done.returncode == 5 and command[:3] == PYTEST  # pytest found no test to run in this file
            if done.returncode and result.failed == failures and not all_slow:
                result.failed += 1
                result.failing.append(f"{shlex.join(command)} ended with exit code {done.returncode}")
        seen = call((row.python, "-m", "parity_tests.seen"), subprocess.PIPE)
        result.seen = seen.stdout.strip() if seen.returncode == 0 else "not known"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result.wall = time.monotonic() - begun
    result.processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return result


def commit_of() -> str:
    """The commit that runs; with + where files differ from it or nothing is known, so that its results are not kept for it."""
    described = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=HOME, capture_output=True, text=True)
    return described.stdout.strip() if described.returncode == 0 else "unknown+"


def kept(row: Row) -> Result | None:
    path = OUT / f"{row.name}.json"
    return Result(**json.loads(path.read_text())) if path.exists() else None


def main(arguments: list[str] | None = None, known: list[Row] | None = None) -> int:
    known, console = known or rows(), Console(width=None if sys.stdout.isatty() else 180, markup=False, highlight=False)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parts = ", ".join(dict.fromkeys(part for row in known for part in row.parts))
    parser.add_argument("names", nargs="*", help=f"parts or rows; all without. Parts: {parts}. Rows: {', '.join(r.name for r in known)}")
    names = parser.parse_args(arguments).names
    if unknown := [name for name in names if not any(name in (row.name, *row.parts) for row in known)]:
        parser.error(f"no part or row {', '.join(unknown)}; the parts are {parts}")
    OUT.mkdir(parents=True, exist_ok=True)
    options = os.environ.get("PYTEST_ADDOPTS", "")
    chosen, commit = [row for row in known if not names or {row.name, *row.parts} & {*names}], commit_of()
    for row in track(chosen, "rows", console=console, disable=not console.is_terminal):
        earlier = kept(row)
        if row.missing:
            result = Result(row.name, commit, seen=f"not run: {row.missing}")
        elif earlier and (earlier.commit, earlier.options) == (commit, options) and "+" not in commit and not earlier.failed:
            result = earlier
        else:
            with (OUT / f"{row.name}.log").open("w") as log:
                result = run(row, commit, log)
        (OUT / f"{row.name}.json").write_text(json.dumps(asdict(result), indent=1))
        console.print(f"{row.name}: {result.passed} passed, {result.failed} failed, {result.skipped} skipped in {result.wall:.0f} s")
    table = Table("row", "commit", "passed", "failed", "skipped", "wall s", "processor s", "seen")
    for r in filter(None, map(kept, known)):
        table.add_row(r.name, r.commit, *(f"{n:.0f}" for n in (r.passed, r.failed, r.skipped, r.wall, r.processor)), r.seen)
    console.print(table)
    failing = [r for r in map(kept, chosen) if r and r.failed]
    for r in failing:
        console.print(f"{r.name}, log in {OUT / r.name}.log:", *r.failing, sep="\n  ")
    return int(bool(failing))


if __name__ == "__main__":
    sys.exit(main())
