"""convert, export and fit killed at random moments: the output is the old one or the new one, whole, and the next run succeeds."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from parity_tests import draws
from parity_tests.fuzz import jobs
from parity_tests.fuzz.children import Child, done
from parity_tests.fuzz.jobs import NEW, NONE, OLD, Job
from parity_tests.fuzz.trial import command

SEED = 500_000
BETWEEN = "between"


class Times(NamedTuple):
    """Seconds of an undisturbed run: the whole, and those in which there is a file that it writes."""

    whole: float
    writing: float


def run(kills: int, which: Sequence[Job] = jobs.KILLED) -> int:
    """Kills as often, a part of them in each job, prints a table, and returns how many were not as they have to be."""
    table: Counter = Counter()
    faults: list[str] = []
    begun = time.monotonic()
    command("--help")  # imports what reads the options
    with tempfile.TemporaryDirectory() as name, tqdm(total=kills, unit="kill", disable=None) as bar:
        for number, job in enumerate(which):
            folder = Path(name, str(number))
            count = kills // len(which) + (number < kills % len(which))
            if count:
                old, times = _prepared(job, folder)
            for turn in range(count):
                random = draws.rng(SEED + 1000 * number + turn)
                try:
                    table[(job.name, *_killed(job, folder, old, times, random))] += 1  # pyright: ignore[reportPossiblyUnbound]
                except (AssertionError, RuntimeError) as error:
                    faults.append(f"{job.name}, kill {turn}: {str(error).strip().splitlines()[-1]}")
                    table[job.name, "wrong"] += 1
                    bar.write(f"{job.name}, kill {turn}: {error}", file=sys.stderr)
                bar.update()
    _print(table, which, kills, time.monotonic() - begun)
    print(*faults, sep="\n")
    return len(faults)


def _prepared(job: Job, folder: Path) -> tuple[Path, Times]:
    """A folder with the old output, and how long the run takes that makes the new one."""
    folder.mkdir()
    old = folder / "before"
    old.mkdir()
    jobs.inputs(old)
    done(lambda: job.first(old))
    work = _copied(old, folder / "timed")
    before, child, seen = _stamps(job, work), Child(lambda: job.run(work)), []
    while not child.ended():
        if _writing(work) or _stamps(job, work) != before:
            seen.append(time.monotonic())
            before = _stamps(job, work)
        time.sleep(0.0002)
    return old, Times(child.wait().seconds, max(seen[-1] - seen[0] if seen else 0.0, 0.002))


def _killed(job: Job, folder: Path, old: Path, times: Times, random: np.random.Generator) -> tuple[str, str]:
    """When the kill came, and which output it left. AssertionError or RuntimeError if anything is wrong."""
    work = _copied(old, folder / "work")
    child = Child(lambda: job.run(work))
    if random.random() < 0.7:  # within the moments of writing, which are few
        before = _stamps(job, work)
        while not _writing(work) and _stamps(job, work) == before and not child.ended():
            time.sleep(0.0005)
        time.sleep(times.writing * 1.05 * random.random())
    else:
        time.sleep(times.whole * 1.05 * random.random())
    ended = child.ended()
    child.kill()
    child.wait()
    wrote = _writing(work)
    found, code, err, then = done(lambda: (job.state(work), *job.run(work), job.state(work)))
    assert found in (OLD, NEW) or (job.between and found != NONE), f"the output is {found}"
    assert code == 0, f"the next run says {err}"
    assert then == NEW, f"after the next run the output is {then}"
    left = {path.name for path in work.iterdir()} - job.leaves - {"old.pth", "new.pth"}
    assert not left, f"the next run leaves {left}"
    assert not (more := _writing(work)), f"the next run leaves {more}"
    when = "while it wrote" if wrote else "after" if ended or found == NEW else "before" if found == OLD else "between two writes"
    return when, found if found in (OLD, NEW) else BETWEEN


def _copied(old: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    return Path(shutil.copytree(old, place))


def _writing(work: Path) -> list[str]:
    """What is there of an output that is not ended."""
    places = [work, work / "out", *(work / "out" / "checkpoints").glob("[0-9]*")]
    names = [path.name for place in places if place.is_dir() for path in place.iterdir()]
    names += [path.name for path in (work / "out" / "checkpoints").glob("*")]
    return [name for name in names if name.startswith(".hyperport.") or "tmp" in name or name.endswith(".part")]


def _stamps(job: Job, work: Path) -> list[tuple[int, int]]:
    """What changes of outputs that are written where they stand, which is wrong."""
    return [
        (found.st_size, found.st_mtime_ns) for name in sorted(job.leaves) if (work / name).is_file() and (found := (work / name).stat())
    ]


def _print(table: Counter, which: Sequence[Job], kills: int, seconds: float) -> None:
    out = Table(title=f"{kills} kills in {seconds:.0f} s")
    columns = [
        ("before", OLD),
        ("while it wrote", OLD),
        ("while it wrote", NEW),
        ("while it wrote", BETWEEN),
        ("between two writes", BETWEEN),
        ("after", NEW),
    ]
    for title in ("killed", *(f"{when}: {found}" for when, found in columns), "wrong"):
        out.add_column(title, justify="left" if title == "killed" else "right")
    for job in which:
        own = {tuple(what): n for (who, *what), n in table.items() if who == job.name}
        wrong = sum(own.values()) - sum(own.get(column, 0) for column in columns)
        out.add_row(job.name, *(str(own.get(column, 0)) for column in columns), str(wrong))
    Console(width=170).print(out)
