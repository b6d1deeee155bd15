"""A sample of the fuzz; `make fuzz` does all of it. And that it sees what it is for."""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from parity_tests import draws
from parity_tests.fuzz import archives, cases, checks, seeds, trial
from parity_tests.fuzz.trial import Case, tried
from weights.errors import Unreadable
from weights.files import tensors


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    seeds.write(folder)
    return folder


def test_changed_files_are_read_or_refused(source: Path):
    rows = list(cases.in_a_row(range(10 * len(cases.OFTEN)), source))
    assert not [row for row in rows if row["fault"]]
    results = Counter(row["result"] for row in rows)
    assert results[trial.READ] > 30
    assert results["Unreadable"] > 30


@pytest.mark.parametrize(("number", "result"), [(10043, trial.READ), (59808, "Unmatched"), (63890, trial.READ), (91310, trial.READ)])
def test_what_once_was_taken_for_a_fault(number: int, result: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A damaged member that nothing reads, a setting that no class has, a file that would be copied onto itself."""
    monkeypatch.setattr(draws, "SHIFT", 0)  # these numbers are those of cases without a shift
    case, outcome = cases.one(number, source, tmp_path)
    assert (outcome.result, outcome.fault) == (result, ""), case.what


def test_a_damaged_member_is_seen_if_something_reads_it(source: Path, tmp_path: Path):
    for name in ("named/data.pkl", "named/data/0", "named/data/7"):
        entries = archives.members(seeds.data(source / "named.pth"))
        entries.append(archives.stored(b"named/data/7", b"x"))
        next(entry for entry in entries if entry.name == name.encode()).crc ^= 1
        (tmp_path / "x.pth").write_bytes(archives.written(entries))
        with contextlib.nullcontext() if name.endswith("7") else pytest.raises(checks.Fault, match="CRC"):
            checks.require_sums(tmp_path / "x.pth")


def test_a_case_is_the_same_each_time(source: Path, tmp_path: Path):
    def files(number: int, folder: str) -> tuple[str, dict[str, bytes]]:
        (tmp_path / folder).mkdir()
        case, _ = cases.one(number, source, tmp_path / folder)
        found = {str(path.relative_to(tmp_path / folder)): path.read_bytes() for path in case.path.parent.rglob("*") if path.is_file()}
        return case.what, found

    for number in (1, 3, 9):
        assert files(number, f"{number}a") == files(number, f"{number}b")


def _bad(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Plants an error in what reads."""
    load = trial.weights.load
    if kind == "numbers":
        monkeypatch.setattr(tensors.Storage, "read", lambda self: self.fetch() * (-1 if self.numel == 18 else 1))
    elif kind == "traceback":
        monkeypatch.setattr(trial.weights, "load", lambda *args, **kwargs: [][1])
    elif kind == "control characters":

        class Raw(Unreadable):
            def __str__(self) -> str:
                return f"{self.path}: \x1b[31m. {self.remedy}"

        def raw(path: Path, **given: object) -> None:
            raise Raw("x", "y", path=path)

        monkeypatch.setattr(trial.weights, "load", raw)
    elif kind == "memory":
        monkeypatch.setattr(trial.weights, "load", lambda *args, **kwargs: (_pages(336), load(*args, **kwargs))[1])
    elif kind == "half an output":
        monkeypatch.setattr(
            trial.weights, "load", lambda path, **given: ((path.parent / ".hyperport.part").touch(), load(path, **given))[1]
        )
    elif kind == "refusal":
        monkeypatch.setattr(trial.weights, "load", lambda path, **given: load(path.parent / "nothing.pth"))


def _pages(mib: int) -> mmap.mmap:
    """New memory of the system. What numpy takes may be memory that this process had and freed, which an earlier test makes it keep."""
    pages = mmap.mmap(-1, mib << 20)
    for at in range(0, mib << 20, mmap.PAGESIZE):
        pages[at] = 1
    return pages


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("", ""),
        ("numbers", "other numbers"),
        ("traceback", "IndexError"),
        ("control characters", "control characters"),
        ("memory", "MiB"),
        ("half an output", "leaves"),
        ("refusal", "refused, although"),
    ],
)
def test_what_is_wrong_is_seen(kind: str, said: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    same = seeds.arrays(source / "tree.pth")
    case = Case(seeds.copied(source / "tree.pth", tmp_path), "nothing", seeds.WITHOUT, same=same, must=True, torch=True)
    _bad(monkeypatch, kind)
    outcome = tried(case, draws.rng(1), tmp_path)
    assert (said in outcome.fault) if kind else not outcome.fault, outcome


SAMPLE = """
import sys
from parity_tests.fuzz import disks, jobs, kills
killed, full = sys.argv[1].split(), sys.argv[2].split()
number = kills.run(2 * len(killed), [job for job in jobs.KILLED if job.name in killed])
sys.exit(number + disks.run(2, [job for job in jobs.ON_DISK if job.name.replace(" ", "-") in full]))
"""


@pytest.mark.slow  # weights/test_store.py kills a writer, and weights/files/test_outputs.py fills a disk
@pytest.mark.parametrize(("killed", "full"), [("export", "embed-npy"), ("fit", "fit plot-out.svg")])
@pytest.mark.skipif(sys.platform != "linux", reason="counts the files of a process in /proc")
def test_kills_and_full_disks(killed: str, full: str):
    """In a process that forks its children, which one with threads must not do."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    command = [sys.executable, "-W", "ignore", "-c", SAMPLE, killed, full]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
