"""docs/speed.md shows what benchmarks/results.json and accuracy.json contain, and the measuring code does what it says."""

import ctypes
import importlib
import resource
import sys
import time
from multiprocessing.connection import Connection

import pytest

from benchmarks import accuracy, report
from benchmarks.__main__ import ALL, OTHERS
from benchmarks.case import Case, Side
from benchmarks.timing import measure
from benchmarks.worker import CONTEXT, Worker, WorkerError
from port_jax.memory import keep_pages

ROW = {"benchmark": "optim", "work": "w", "torch_ms": 30.0, "kept_ms": 24.0, "compiled_ms": 20.0, "jax_ms": 2.0, "goal": 5.0,
       "eager_ratio": 15.0, "eager_low": 12.0, "eager_high": 18.0, "best_ratio": 10.0, "best_low": 8.0, "best_high": 12.0,
       "torch_first_s": 0.5, "jax_first_s": 1.5, "torch_peak_mib": 120.0, "jax_peak_mib": 80.0}  # fmt: skip
MACHINE = {"device": "cpu", "cpu": "a", "cores": 2, "threads": 2, "python": "3", "versions": {"jax": "1"}, "load": 0.0}


def test_the_page_shows_the_results():
    assert report.between() == report.section(report.load())
    assert report.between(*accuracy.MARKS) == accuracy.section(accuracy.load())


def test_the_results_are_of_the_cases_that_the_code_has():
    """A case that is renamed, resized or removed leaves no row behind; what the data decide, such as a graph, is not built for this."""
    rows = report.load()["runs"]["cpu"]["rows"]
    assert {row["benchmark"] for row in rows} == {*ALL}
    for name in ("optim", "pairwise", "hgat"):  # those whose cases are listed without making their data
        cases = list(importlib.import_module(f"benchmarks.{name}").cases(False))
        assert [row["work"] for row in rows if row["benchmark"] == name] == [case.work for case in cases]
        assert [row.get("goal") for row in rows if row["benchmark"] == name] == [case.goal for case in cases]
    found = accuracy.load()
    assert {(row["model"], row["graph"], row["task"]) for row in found} == {
        (m, n, t) for n, t, _ in accuracy.CASES for m in accuracy.THEIRS
    }
    for row in found:
        assert row["agree"] == accuracy.agree(row["torch_scores"], row["jax_scores"])
    compared = [row for row in rows if "eager_low" in row]
    assert len(compared) > 10
    for row in compared:
        assert row["eager_low"] <= row["eager_ratio"] <= row["eager_high"]
        # The ratio of the medians lies among the ratios of turns, but for the scatter of times.
        assert row["eager_low"] / 2 <= row["torch_ms"] / row["jax_ms"] <= row["eager_high"] * 2


def test_every_figure_has_its_script_its_baseline_and_its_machine():
    assert set(report.SUBJECTS) == {*ALL, *OTHERS}
    text = report.section({"runs": {"cpu": {"machine": MACHINE, "rows": [ROW, {**ROW, "benchmark": "hgat", "work": "v"}]}}})
    assert text.startswith("\nMachine: a, 2 cores, 2 threads for each side, device cpu; Python 3, jax 1.\n")
    for name in ("optim", "hgat"):
        title, baseline = report.SUBJECTS[name]
        assert f"### {title}\n\nScript: `python -m benchmarks {name}`. {baseline}\n\n| work | torch, ms |" in text
    assert "times the floor" not in text  # which no row has


def test_a_row_as_text():
    assert report.cells(ROW) == ["w", "30", "24", "20", "2", "15.0 (12.0 to 18.0)", "5", "10.0 (8.0 to 12.0)", "", "0.5 / 1.5",
                                 "120 / 80"]  # fmt: skip
    failed = {**ROW, "compiled_error": "Broken: x (a.py:1)"}
    assert report.cells(failed)[3] == "fails"
    assert "- w: `Broken: x (a.py:1)`" in report.section({"runs": {"cpu": {"machine": MACHINE, "rows": [failed]}}})


def test_missed_goals_and_uneven_times_are_shown():
    assert report.cells({**ROW, "goal": 15.0})[6] == "15"
    assert report.cells({**ROW, "goal": 15.1})[6] == "15.1 (missed)"
    assert report.cells({key: value for key, value in ROW.items() if key != "goal"})[6] == ""
    row = {**ROW, "compiled_low_ms": 6.0, "compiled_high_ms": 660.0}
    assert "- w: 6 to 660 ms" in report.section({"runs": {"cpu": {"machine": MACHINE, "rows": [row]}}})
    assert "6 to" not in report.section({"runs": {"cpu": {"machine": MACHINE, "rows": [{**row, "compiled_high_ms": 50.0}]}}})


def test_means_agree_within_their_interval():
    near, far = [0.80, 0.82, 0.81, 0.79, 0.83], [0.90, 0.91, 0.92, 0.91, 0.90]
    assert accuracy.agree(near, [x + 0.005 for x in near])
    assert not accuracy.agree(near, far)
    # t(0.975, 4) s/sqrt(5) with s = 0.0158
    assert abs(accuracy.interval(near) - 0.0196) < 1e-4
    row = {"model": "HGCN", "graph": "cora", "task": "nc", "torch_scores": near, "jax_scores": far, "torch_seconds": 9.0,
           "jax_seconds": 3.0, "agree": False}  # fmt: skip
    assert accuracy.cells(row) == ["HGCN", "cora", "accuracy", "81.0 ± 2.0", "90.8 ± 1.0", "no", "9", "3"]


def test_named_benchmarks_replace_their_own_rows(monkeypatch: pytest.MonkeyPatch):
    old = {"runs": {"cpu": {"machine": MACHINE, "rows": [{"benchmark": "a", "n": 1}, {"benchmark": "b", "n": 1}]}, "gpu": {"rows": []}}}
    monkeypatch.setattr(report, "load", lambda: old)
    runs = report.merged([{"benchmark": "a", "n": 2}], MACHINE)["runs"]
    assert runs["cpu"]["rows"] == [{"benchmark": "a", "n": 2}, {"benchmark": "b", "n": 1}]
    assert "gpu" in runs


SIZE = 1 << 26
"""Bytes, more than glibc keeps by default."""


def sleeper(seconds: float):
    held = bytearray(1 << 26)
    return lambda: (time.sleep(seconds), held.__setitem__(0, 1))


def broken():
    raise KeyError("no such thing\nsecond line")


@pytest.mark.slow  # the tests above have the table, its failures and its ratios
def test_sides_are_measured_in_processes_of_their_own():
    row = measure(Case("w", Side(sleeper, (0.04,)), Side(sleeper, (0.01,)), goal=2.0, compiled=Side(broken)))
    assert 2 < row["eager_ratio"] < 6
    assert row["eager_low"] <= row["eager_ratio"] <= row["eager_high"]
    assert row["best_ratio"] <= row["eager_ratio"]
    assert row["compiled_error"].startswith("KeyError: 'no such thing")
    assert 60 <= row["jax_peak_mib"] < 300


def fault_counter(connection: Connection, kept: bool):
    """The page faults of four turns of malloc, memset, free; numpy would ask for huge pages."""
    assert not kept or keep_pages()
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        held = ctypes.c_void_p(libc.malloc(SIZE))
        ctypes.memset(held, 1, SIZE)
        libc.free(held)
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@pytest.mark.slow  # a figure of the kernel; training uses kept pages in test_fit
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_kept_pages_come_from_the_kernel_once():
    found = []
    for kept in (False, True):
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=fault_counter, args=(theirs, kept))
        process.start()
        assert ours.poll(60)
        found.append(ours.recv())
        process.join()
    if found[0] < 2 * SIZE // resource.getpagesize():
        pytest.skip("this kernel makes huge pages of everything")
    assert found[1] < 0.4 * found[0]


def test_a_side_that_takes_too_long_is_stopped():
    with pytest.raises(WorkerError, match=r"not ready after 0\.5 s"):
        Worker(Side(sleeper, (60.0,)), limit=0.5)
