"""What a person waits for, from the start of the process: the first step, 200 steps, a run of the accuracy table, a command of the shell.

`python -m benchmarks startup` runs each piece of work in processes of its own (`benchmarks/processes.py`), which take turns: in torch, in
JAX with an empty folder of compiled programs (cold), and in JAX with that folder as the first left it (warm). A row is the median over
`ROUNDS` processes of each kind, or over as many as fit into its time. Further rows count the programs that the second call of `fit`, of an
evaluation and of `verify` compiles.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import environments
from benchmarks.case import NotMeasured
from benchmarks.processes import BEGUN, EDGES, HERE, NODES

ROUNDS = 5
STEPS = 200
LONGEST = {"hgat": 180.0, "accuracy": 50.0, "demo": 90.0, "command": 45.0}
"""Seconds after which no further round of a row begins, if it would not end in time."""
ACCURACY = [(model, graph) for graph in ("airport", "cora", "disease_lp") for model in ("HGCN", "HGAT", "HyboNet")]
SHELL = {"inspect": 1.5, "convert": 3.0, "verify": 10.0}
"""Commands, and the goals in seconds."""
AGAIN = ("an evaluation", "fit", "verify")
"""What is done twice in one process."""
PATIENCE = 300.0
"""Seconds after which a process is given up."""

Seconds = Mapping[str, float]


def rows(quick: bool) -> Iterator[dict[str, Any]]:
    """Every row; `quick` has one process of each kind, a tenth of the steps and one row of the accuracy table."""
    rounds, steps = (1, STEPS // 10) if quick else (ROUNDS, STEPS)
    graph = f"HGAT, {NODES:,} nodes, {EDGES:,} edges"
    yield from attempted([f"{graph}, to the first step", f"{graph}, to the end of {steps} steps"], lambda: hgat(steps, rounds))
    yield from attempted([f"{graph}, to the first step, from an exported program"], lambda: [exported(rounds)])
    for model, name in ACCURACY[:1] if quick else ACCURACY:
        yield from attempted([f"{model}, {name}, {steps} steps"], partial(accuracy, model, name, steps, rounds))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from attempted(["make demo, after installation"], lambda: [demo(folder / "demo", rounds)])
        yield from attempted([f"hyperport {word}, the demo's checkpoint" for word in SHELL], lambda: shell(folder, rounds))
        yield from attempted([f"{work}, twice in one process" for work in AGAIN], lambda: compilations(folder))


def attempted(works: Sequence[str], measure: Callable[[], Iterable[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """What was measured, under the names of the rows; or why it could not be."""
    try:
        found = list(measure())
    except NotMeasured as why:
        found = [{"not_measured": str(why)}] * len(works)
    yield from ({"work": work, **figures} for work, figures in zip(works, found, strict=True))


def hgat(steps: int, rounds: int) -> list[dict[str, Any]]:
    """To the first step of an HGAT, and to the last."""
    found = both("hgat", [str(steps)], rounds, LONGEST["hgat"])
    return [{**found["first"], "cold_goal_s": 8.0, "warm_goal_s": 4.0}, beside_torch(found["last"])]


def exported(rounds: int) -> dict[str, Any]:
    """A process that reads an exported training step and makes it, with an empty folder of compiled programs and again."""
    python, times = environments.python_of("export"), Times("cold_s", "warm_s")
    with tempfile.TemporaryDirectory() as folder:
        process(folder, "export", folder, python=python)
        times.fill(rounds, LONGEST["command"], lambda programs, side: process(programs, "exported", folder, python=python)["first"])
    return {**times.medians(), "warm_goal_s": 2.0}


def accuracy(model: str, name: str, steps: int, rounds: int) -> list[dict[str, Any]]:
    """A run of the accuracy table."""
    data = Path(os.environ.get("DATA") or HERE.parent / "shared" / "data")
    if not (data / f"{name}.npz").exists():
        raise NotMeasured(f"no {name}.npz in the folder that DATA names")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "problem.npz"))
        process(folder, "problem", str(data), model, name, path)
        return [beside_torch(both("accuracy", [path, model, name, str(steps)], rounds, LONGEST["accuracy"])["last"])]


def beside_torch(seconds: Seconds) -> dict[str, float]:
    """With the goals: cold torch's time, warm half of it."""
    return {**seconds, "cold_goal_s": seconds["torch_s"], "warm_goal_s": seconds["torch_s"] / 2}


def demo(folder: Path, rounds: int) -> dict[str, Any]:
    """What `make demo` runs once the environment is there."""
    return {**taken([sys.executable, "examples/migrate_hgat.py", "--out", str(folder)], rounds, LONGEST["demo"]), "cold_goal_s": 40.0}


def shell(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """The commands of the shell on the demo's checkpoint, which is made first."""
    process(str(folder / "programs"), "checkpoint", str(folder))
    hyperport, (file, out) = str(Path(sys.executable).parent / "hyperport"), files(folder)
    arguments = {"inspect": [], "convert": ["--out", out, "--force"], "verify": ["--converted", out]}
    return [
        {**taken([hyperport, word, file, *arguments[word]], rounds, LONGEST["command"]), "warm_goal_s": goal}
        for word, goal in SHELL.items()
    ]


def files(folder: Path) -> tuple[str, str]:
    """The demo's checkpoint, and what it was converted to."""
    return str(folder / "hgat.pth"), str(folder / "converted")


def compilations(folder: Path) -> list[dict[str, Any]]:
    """How many programs are compiled the first time, and the second time in the same process."""
    found = process(str(folder / "programs"), "again", *files(folder))
    return [{"programs_first": found[f"{work}, first"], "programs_second": found[f"{work}, second"], "programs_goal": 0} for work in AGAIN]


class Times:
    """Seconds by side."""

    def __init__(self, *sides: str):
        self.found: dict[str, list[float]] = {side: [] for side in sides}

    def fill(self, rounds: int, longest: float, once: Callable[[str, str], float]) -> None:
        """Asks `once` for the seconds of each side in turn, with an empty folder each round, as often as the time allows, at least once."""
        begun = time.perf_counter()
        for number in range(rounds):
            if number and (time.perf_counter() - begun) * (number + 1) / number > longest:
                break
            with tempfile.TemporaryDirectory() as programs:
                for side, found in self.found.items():
                    found.append(once(programs, side))

    def medians(self) -> dict[str, float]:
        """The median of each side, and the number of processes."""
        return {side: statistics.median(x) for side, x in self.found.items()} | {"processes": len(next(iter(self.found.values())))}


def both(work: str, arguments: list[str], rounds: int, longest: float) -> dict[str, dict[str, float]]:
    """What was waited for -> the medians of torch, of JAX cold and of JAX warm."""
    found: dict[str, Times] = {}
    sides = {"torch_s": "torch", "cold_s": "jax", "warm_s": "jax"}

    def once(programs: str, side: str) -> float:
        for name, seconds in process(programs, work, sides[side], *arguments).items():
            found.setdefault(name, Times(*sides)).found[side].append(seconds)
        return 0.0

    Times(*sides).fill(rounds, longest, once)
    return {name: times.medians() for name, times in found.items()}


def taken(command: list[str], rounds: int, longest: float) -> dict[str, float]:
    """Medians of the seconds of a whole process, with an empty folder of programs and again."""
    times = Times("cold_s", "warm_s")

    def once(programs: str, side: str) -> float:
        begun = time.perf_counter()
        started(command, programs)
        return time.perf_counter() - begun

    times.fill(rounds, longest, once)
    return times.medians()


def process(programs: str, work: str, *arguments: str, python: str = sys.executable) -> dict[str, float]:
    """What a process of `benchmarks/processes.py` prints."""
    done = started([python, "-m", "benchmarks.processes", work, *arguments], programs)
    return json.loads(done.stdout.splitlines()[-1])


def started(command: list[str], programs: str) -> subprocess.CompletedProcess[str]:
    """Runs a process that keeps its compiled programs in a folder. NotMeasured with the end of its messages if it fails."""
    home = {"JAX_COMPILATION_CACHE_DIR": programs, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    env = {**os.environ, **home, BEGUN: repr(time.time())}
    try:
        done = subprocess.run(command, env=env, cwd=HERE, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"{' '.join(command[1:4])} took more than {PATIENCE:g} s") from None
    if done.returncode:
        last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-1:]
        raise NotMeasured(f"{' '.join(command[1:4])} ended with exit code {done.returncode}: {''.join(last)}")
    return done
