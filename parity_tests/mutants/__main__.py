"""Plants known errors, one at a time, into a copy of the project and shows which test catches each.

    python -m parity_tests.mutants [NAME ...]

The tests of all chosen mutations have to pass on the copy first, which has no folder ../shared. Every run is a fork of this process,
which has imported the libraries and nothing of the project, because importing them takes longer than most tests. Exit code: 0 if every
mutation is caught, 1 if one survives, 2 if the text that a mutation replaces is gone or the tests fail without a mutation.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from parity_tests.mutants.tables import MUTATIONS

HOME = Path(__file__).parents[2]
COPIED = ("port_jax", "weights", "reference_torch", "parity_tests", "examples", "benchmarks", "pyproject.toml")
LIBRARIES = (
    "jax", "flax.linen", "optax", "orbax.checkpoint", "torch", "geoopt", "scipy.stats", "sklearn.metrics", "networkx", "hypothesis",
    "pytest",
)  # fmt: skip
PATIENCE = 300
"""Seconds after which a run ends, as caught: an error may make a loop endless."""


def loaded() -> None:
    """Imports the libraries, with the settings of `parity_tests.conftest` that are read when they are imported."""
    os.environ.update({"PYTHONDONTWRITEBYTECODE": "1", "PYTORCH_JIT": os.environ.get("PYTORCH_JIT", "0")})
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.dont_write_bytecode = True
    for name in LIBRARIES:
        if importlib.util.find_spec(name.partition(".")[0]):  # torch and geoopt may be missing
            importlib.import_module(name)


def run(copy: Path, tests: tuple[str, ...], patience: int = 0) -> tuple[int, str]:
    """pytest's exit code on the copy, and the first test that failed; after `patience` seconds 1."""
    told = copy.parent / "told"
    child = os.fork()
    if not child:
        _test(copy, tests, told, patience)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -signal.SIGALRM:
        return 1, f"no end after {patience} s"
    text = told.read_text(errors="replace")
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", text, re.MULTILINE)
    return code, failed.group(1) if failed else text[-2000:]


def _test(copy: Path, tests: tuple[str, ...], told: Path, patience: int) -> None:
    """pytest in a process of its own, on the packages of the copy; does not return."""
    import pytest

    out = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    code = 3
    try:
        for name in [name for name in sys.modules if name.partition(".")[0] in COPIED]:
            del sys.modules[name]
        os.chdir(copy)
        sys.path[:] = [str(copy), *(path for path in sys.path if path and Path(path).resolve() != HOME)]
        os.environ["PYTHONPATH"] = str(copy)
        signal.alarm(patience)
        slow_too = ["-m", ""] if all(_case(test) for test in tests) else []
        named = ["-x", "-p", "no:cacheprovider", "--no-header", *(f"parity_tests/{test}" for test in tests)]
        code = int(pytest.main([*slow_too, *named]))
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:  # all that is named is slow
            code = int(pytest.main(["-m", "", *named]))
        sys.stdout.flush()
    finally:
        os._exit(code)


def _case(test: str) -> bool:
    """Whether one case is named: it runs also where it is slow. Of files and functions the slow cases stay out."""
    return "[" in test


def used() -> float:
    """Seconds of processor time of all runs that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def copied(copy: Path) -> None:
    """Makes the copy."""
    copy.mkdir()
    for name in COPIED:
        source = HOME / name
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(source, copy / name, ignore=ignored) if source.is_dir() else shutil.copy(source, copy)
    # What the mutation leaves as it was need not be compiled again.
    if (HOME / ".cache").is_dir():
        (copy / ".cache").symlink_to(HOME / ".cache")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="beginnings of the mutations' names; all without")
    names = parser.parse_args().names
    chosen = [m for m in MUTATIONS if not names or any(m.name.startswith(name) for name in names)]
    sources = {file: (HOME / file).read_text() for m in chosen for file in m.files}
    try:
        mutants = {m.name: m.planted(sources) for m in chosen}
    except ValueError as gone:
        print(gone)
        return 2
    planted, survivors = [m for m in chosen if not m.equivalent], []
    loaded()
    with tempfile.TemporaryDirectory(prefix="mutants_") as folder:
        copy = Path(folder, "project")
        copied(copy)
        print("without a mutation", file=sys.stderr, flush=True)
        every = dict.fromkeys(test for m in planted for test in m.tests)
        for tests in (tuple(filter(_case, every)), tuple(test for test in every if not _case(test))):
            code, failed = run(copy, tests) if tests else (0, "")
            if code:
                print(f"without a mutation: {failed}")
                return 2
        print("| mutation | in | caught by | s |\n| --- | --- | --- | --- |", flush=True)
        for number, mutation in enumerate(chosen, 1):
            before, caught = used(), f"nothing can: {mutation.equivalent}"
            print(f"{number} of {len(chosen)}, {before / 60:.1f} min: {mutation.name}", file=sys.stderr, flush=True)
            if not mutation.equivalent:
                for file, text in mutants[mutation.name].items():
                    (copy / file).write_text(text)
                code, failed = run(copy, mutation.tests, PATIENCE)
                for file in mutation.files:
                    (copy / file).write_text(sources[file])
                if code not in (0, 1):  # not a test that fails, but a file that cannot be imported
                    print(f"pytest on {mutation.name}: {failed}")
                    return 2
                caught = failed.removeprefix("parity_tests/") if code else "**nothing**"
                survivors += [] if code else [mutation.name]
            print(f"| {mutation.name} | {', '.join(mutation.files)} | {caught} | {used() - before:.0f} |", flush=True)
    print(f"{len(planted) - len(survivors)} of {len(planted)} caught, {used() / 60:.0f} minutes of processor time")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
