"""Full disks: convert, export, embed, plot and fit, with room for a part of their output. They say so, and what was there stays.

Where the process may mount one (root on Linux), the disk is a tmpfs with few bytes or few files left; it is mounted in a namespace of its
own and ends with the process. The same is tried with a limit for the size of a file, as a quota has it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from parity_tests import draws
from parity_tests.fuzz import jobs
from parity_tests.fuzz.children import done
from parity_tests.fuzz.draw import Random, below
from parity_tests.fuzz.jobs import NEW, OLD, Job
from parity_tests.fuzz.trial import command

SEED = 600_000
SIZE, FILES = 32 << 20, 300
PAGE = 4096
TRIES = 6
"""Of each job on each disk."""
ROWS = 4000
NEW_MOUNTS, PRIVATE = 0x00020000, (1 << 14) | (1 << 18)
Files = dict[str, bytes | None]
"""Contents by path; None for a folder."""


def run(tries: int = TRIES, which: Sequence[Job] = jobs.ON_DISK) -> int:
    """Tries jobs on full disks, each as often, prints a table, and returns how many were not as they have to be."""
    table: Counter = Counter()
    faults: list[str] = []
    begun = time.monotonic()
    command("--help")  # imports what reads the options
    with tempfile.TemporaryDirectory() as name:
        disk = Path(name)
        mounted = _mount(disk)
        if not mounted:
            print("no small file system: mounting one needs root on Linux; only the limit for the size of a file is tried")
        for number, job in enumerate(which):
            folder = disk / str(number)
            folder.mkdir()
            old, need = _prepared(job, folder)
            for turn in range(tries):
                random = draws.rng(SEED + 100 * number + turn)
                means = ("few bytes", "few files", "a quota")[turn % 3] if mounted else "a quota"
                try:
                    table[job.name, _tried(job, folder, old, need, means, turn, random)] += 1
                except (AssertionError, RuntimeError) as error:
                    table[job.name, "wrong"] += 1
                    faults.append(f"{job.name}, {means}: {str(error).strip()[-600:]}")
            shutil.rmtree(folder)
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)
    _print(table, which, time.monotonic() - begun)
    print(*faults, sep="\n")
    return len(faults)


def _mount(place: Path) -> bool:
    """Puts a small disk at a place, which nobody but this process and its children sees; False where that is not permitted."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS) or libc.mount(b"none", b"/", None, PRIVATE, None):
        return False
    return not libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"size=%d,nr_inodes=%d" % (SIZE, FILES))


def _prepared(job: Job, folder: Path) -> tuple[Files, tuple[int, int]]:
    """What is in a folder with the old output; the bytes and the files of the new one."""
    jobs.inputs(folder, ROWS)
    done(lambda: job.first(folder))
    old = _bytes(folder)
    done(lambda: job.run(folder))
    new = [content for name, content in _bytes(folder).items() if old.get(name) != content and content is not None]
    part = 4 if job.between else 1  # of which the last step needs less
    return old, (sum(-(-len(content) // PAGE) * PAGE for content in new) // part, -(-len(new) // part))


def _tried(job: Job, folder: Path, old: Files, need: tuple[int, int], means: str, turn: int, random: Random) -> str:
    """What was said on one full disk. AssertionError or RuntimeError if it is not as it has to be."""
    _put_back(folder, old)
    if means == "few bytes":
        limit = _few_bytes(folder.parent, below(random, (1 + turn % 2) * need[0] // PAGE) * PAGE)  # also for one output beside the other
    elif means == "few files":
        limit = _few_files(folder.parent, below(random, need[1]))
    else:
        limit = _quota(1 + below(random, max(len(content or b"") for content in old.values()) // 2))
    with limit as within:
        code, err, state = done(lambda: (*within(lambda: job.run(folder)), job.state(folder)))
    if code == 0:
        assert state in (NEW, "there"), f"it succeeds, and the output is {state}"
        return "written"
    assert code == 6, f"exit {code}: {err}"
    assert re.fullmatch("error: .+\n", err), err
    if job.between:  # states that were saved on the way stay
        assert state not in ("none", NEW), f"the run is at {state}"
    else:
        assert _bytes(folder) == old, f"{err}: other files, {sorted(_bytes(folder).keys() ^ old.keys())}"
        assert state in (OLD, "there")
    again = done(lambda: (*job.run(folder), job.state(folder)))
    assert again[0] == 0, f"with room again: {again}"
    assert again[2] in (NEW, "there"), f"with room again: {again}"
    return f"full: {means}"


@contextlib.contextmanager
def _few_bytes(disk: Path, room: int) -> Iterator[Callable]:
    """All but `room` bytes of the disk are taken."""
    filler, free = disk / "filler", os.statvfs(disk)
    try:
        with open(filler, "wb") as file:
            file.write(bytes(max(free.f_bavail * free.f_frsize - room, 0)))
        yield lambda work: work()
    finally:
        filler.unlink()


@contextlib.contextmanager
def _few_files(disk: Path, room: int) -> Iterator[Callable]:
    """All but `room` files of the disk are taken."""
    fillers = [disk / f"filler{n}" for n in range(os.statvfs(disk).f_ffree - room)]
    try:
        for filler in fillers:
            filler.touch()
        yield lambda work: work()
    finally:
        for filler in fillers:
            filler.unlink(missing_ok=True)


@contextlib.contextmanager
def _quota(size: int) -> Iterator[Callable]:
    """No file may be longer."""

    def within(work: Callable) -> object:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            return work()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    yield within


def _bytes(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def _put_back(folder: Path, files: Files) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    for name, content in files.items():
        if content is None:
            (folder / name).mkdir(parents=True)
        else:
            (folder / name).write_bytes(content)


def _print(table: Counter, which: Sequence[Job], seconds: float) -> None:
    out = Table(title=f"{sum(table.values())} full disks in {seconds:.0f} s")
    columns = ("written", "full: few bytes", "full: few files", "full: a quota", "wrong")
    for title in ("job", *columns):
        out.add_column(title, justify="left" if title == "job" else "right")
    for job in which:
        out.add_row(job.name, *(str(table[job.name, column]) for column in columns))
    Console(width=130).print(out)
