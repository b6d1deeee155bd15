"""docs/speed.md shows what benchmarks/results.json and accuracy.json contain, and the measuring code does what it says."""

import ctypes
import importlib
import os
import re
import resource
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks import accuracy, environments, report, startup, tables, tidhy
from benchmarks.__main__ import ALL, OTHERS
from benchmarks.case import Case, NotMeasured, Side
from benchmarks.timing import compared, measure
from benchmarks.worker import CONTEXT, Worker, WorkerError
from parity_tests.models.cases_tidhy_training import LOSSES
from port_jax.memory import keep_pages

ROW = {"benchmark": "optim", "work": "w", "torch_ms": 30.0, "kept_ms": 24.0, "compiled_ms": 20.0, "jax_ms": 2.0, "goal": 5.0,
       "eager_ratio": 15.0, "eager_low": 12.0, "eager_high": 18.0, "best_ratio": 10.0, "best_low": 8.0, "best_high": 12.0,
       "torch_first_s": 0.5, "jax_first_s": 1.5, "torch_peak_mib": 120.0, "jax_peak_mib": 80.0}  # fmt: skip
MACHINE = {"device": "cpu", "cpu": "a", "cores": 2, "threads": 2, "python": "3", "versions": {"jax": "1"}, "load": 0.0}
LISTED = ("optim", "pairwise", "hgat", "architectures")
"""Those whose cases are listed without making their data."""


def results(*rows: Any) -> Any:
    """The results of a run with these rows."""
    return {"runs": {report.name_of(MACHINE): {"machine": MACHINE, "rows": list(rows)}}}


def test_the_page_shows_the_results():
    assert report.between() == report.section(report.load())
    for name, run in report.load()["runs"].items():
        assert report.plot_of(name).exists() == any(row["benchmark"] == "growth" for row in run["rows"])
    assert report.between(*accuracy.MARKS) == accuracy.section(accuracy.load())


def graph_of(work: str) -> str:
    """The name of a case, whether the graph that it names was there or one of its size stood in for it."""
    return re.sub(r"a random graph of (\w+)'s size", r"\1", work)


def test_the_results_are_of_the_cases_that_the_code_has():
    """A case that is renamed, resized or removed leaves no row behind; what the data decide, such as a graph, is not built for this."""
    runs = report.load()["runs"]
    assert list(runs) == [report.name_of(run["machine"]) for run in runs.values()]
    cases = {name: list(importlib.import_module(f"benchmarks.{name}").cases(False)) for name in LISTED}
    for run in runs.values():
        rows = run["rows"]
        assert {row["benchmark"] for row in rows} <= {*ALL, *OTHERS}
        for name in {row["benchmark"] for row in rows} & {*LISTED}:
            # The goals of today are those of the runs of today: a machine that is not at hand keeps the goals of its run.
            assert [graph_of(row["work"]) for row in rows if row["benchmark"] == name] == [graph_of(case.work) for case in cases[name]]
        compared = [row for row in rows if "eager_low" in row]
        assert len(compared) > 10
        for row in compared:
            assert row["eager_low"] <= row["eager_ratio"] <= row["eager_high"]
            # The ratio of the medians lies among the ratios of turns, but for the scatter of times.
            assert row["eager_low"] / 2 <= row["torch_ms"] / row["jax_ms"] <= row["eager_high"] * 2


def test_a_machine_has_results_of_every_benchmark():
    """And with today's goals."""
    whole = [run["rows"] for run in report.load()["runs"].values() if {row["benchmark"] for row in run["rows"]} >= {*ALL}]
    if not whole:
        pytest.xfail("`make bench` has not been run since benchmarks were added")
    for name in LISTED:
        cases = list(importlib.import_module(f"benchmarks.{name}").cases(False))
        goals = [[(row.get("goal"), row.get("best_goal")) for row in rows if row["benchmark"] == name] for rows in whole]
        assert [(case.goal, case.best_goal) for case in cases] in goals
    for rows in whole:  # only the environments of other libraries may be out of reach
        assert {row["benchmark"] for row in rows if "not_measured" in row} <= {"peers", "startup"}


def test_the_accuracy_rows_are_of_the_cases_that_the_code_has():
    found = accuracy.load()
    assert {(row["model"], row["graph"], row["task"]) for row in found} == {
        (m, n, t) for n, t, _ in accuracy.CASES for m in accuracy.MODELS
    }
    for row in found:
        assert row["agree"] == accuracy.agree(row["torch_scores"], row["jax_scores"])


def test_every_figure_has_its_script_its_baseline_and_its_machine():
    assert set(report.SUBJECTS) == {*ALL, *OTHERS}
    text = report.section(results(ROW, {**ROW, "benchmark": "hgat", "work": "v"}))
    assert text.startswith("\nMachine: a, 2 cores, 2 threads for each side, device cpu; Python 3, jax 1.\n")
    for name in ("optim", "hgat"):
        title, baseline = report.SUBJECTS[name]
        assert f"### {title}\n\nScript: `python -m benchmarks {name}`. {baseline}\n\n| work | torch, ms |" in text
    assert "times the floor" not in text  # which no row has


def test_a_row_as_text():
    assert tables.cells(ROW) == ["w", "30", "24", "20", "2", "15.0 (12.0 to 18.0)", "5 met", "10.0 (8.0 to 12.0)", "", "", "",
                                 "0.5 / 1.5", "120 / 80"]  # fmt: skip
    failed = {**ROW, "compiled_error": "Broken: x (a.py:1)"}
    assert tables.cells(failed)[3] == "fails"
    assert "- w: `Broken: x (a.py:1)`" in report.section(results(failed))
    absent = {"benchmark": "peers", "work": "w", "not_measured": "Python 3.12 is not on this machine"}
    assert tables.cells(absent)[:2] == ["w", "not measured"]
    assert "Not measured:\n\n- w: Python 3.12 is not on this machine" in report.section(results(absent))


def test_missed_goals_and_uneven_times_are_shown():
    assert tables.cells({**ROW, "goal": 15.0})[6] == "15 met"
    assert tables.cells({**ROW, "goal": 15.1})[6] == "15.1 missed"
    assert tables.cells({key: value for key, value in ROW.items() if key != "goal"})[6] == ""
    assert tables.cells({**ROW, "best_goal": 10.5})[8] == "10.5 missed"
    row = {**ROW, "compiled_low_ms": 6.0, "compiled_high_ms": 660.0}
    assert "- w: 6 to 660 ms" in report.section(results(row))
    assert "6 to" not in report.section(results({**row, "compiled_high_ms": 50.0}))


def test_rows_of_the_other_tables_as_text():
    waited = {"benchmark": "startup", "work": "w", "torch_s": 12.0, "cold_s": 13.0, "warm_s": 6.0, "cold_goal_s": 12.0, "warm_goal_s": 6.0,
              "processes": 5}  # fmt: skip
    assert tables.cells(waited) == ["w", "12", "13", "12 missed", "6", "6 met", "0.9", "2.0", "5"]
    assert tables.headline(waited) == "cold 13 s (12 missed), warm 6 s (6 met)"
    beside = {**waited, "benchmark": "tidhy"}  # beside rows of its steps
    assert (tables.cells(beside), tables.headline(beside)) == (tables.cells(waited), tables.headline(waited))
    again = {"benchmark": "startup", "work": "w", "programs_first": 30, "programs_second": 1, "programs_goal": 0}
    assert tables.cells(again) == ["w", "30", "1", "0 missed"]
    sides = {"work": "w", "theirs_ms": 2.0, "jax_ms": 3.0, "theirs_peak_mib": 10.0, "jax_peak_mib": 12.0}
    cost = {"benchmark": "adam", **sides, "cost": 1.5, "cost_low": 1.4, "cost_high": 1.6, "most": 1.5}
    assert tables.cells(cost) == ["w", "2", "3", "1.5 (1.4 to 1.6)", "1.5 met", "10 / 12"]
    other = {"benchmark": "peers", **sides, "ratio": 2 / 3, "low": 0.6, "high": 0.7, "goal": 9.0}
    assert tables.cells(other) == ["w", "2", "3", "0.67 (0.6 to 0.7)", "9 missed", "10 / 12"]
    # One table for each kind, and none of them loses a row.
    assert [shown.row_count for shown in report.tables([waited, ROW, again, cost, ROW])] == [1, 2, 1, 1]


@pytest.mark.slow  # the step and the record are compared with torch's in models/test_tidhy_training.py and models/test_tidhy.py
def test_both_sides_of_tidhys_rows_do_the_same_work():
    """They begin with the same parameters, and make as many iterations; with the stopping rule also in the steps that follow."""
    with jax.enable_x64(False):
        theirs, ours = tidhy.torch_training(2, 3, 5), tidhy.jax_training(2, 3, 5)
        want, have = theirs(), ours()  # one step: GradNorm's first Adam step is the sign of a float32 difference
        np.testing.assert_allclose([have[name] for name in LOSSES], want, rtol=1e-5)
        theirs, ours = tidhy.torch_training(2, 3, None), tidhy.jax_training(2, 3, None)
        for _ in range(2):
            want, have = theirs(), ours()
            np.testing.assert_allclose([have[name] for name in LOSSES], want, rtol=1e-3)
        for steps in (5, None):
            want, have = tidhy.torch_record(2, 3, steps)(), tidhy.jax_record(2, 3, steps)()
            np.testing.assert_allclose(have.R_hat, want["R_hat"], rtol=1e-3, atol=1e-5)
    assert int(have.iterations.min()) > 1


ALONE = """
import sys
from benchmarks import processes, tidhy
assert processes.tidhy("{side}", "2", "3", "5", "2")["last"] > 0
assert "{other}" not in sys.modules
"""


@pytest.mark.slow  # what models and converter import is tested in test_house.py
@pytest.mark.parametrize(("side", "other"), [("torch", "jax"), ("jax", "torch")])
def test_a_process_of_tidhys_wait_has_one_side_alone(side: str, other: str):
    environment = {**os.environ, "PYTHONPATH": str(startup.HERE), startup.BEGUN: repr(time.time())}
    found = subprocess.run([sys.executable, "-c", ALONE.format(side=side, other=other)], env=environment, capture_output=True, text=True,
                           timeout=300)  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]


def test_machines_stand_side_by_side():
    other = {**MACHINE, "cpu": "b"}
    runs = {"runs": {report.name_of(on): {"machine": on, "rows": [ROW]} for on in (MACHINE, other)}}
    text = report.section(runs)
    assert "| work | a, 2 cores, 2 threads | b, 2 cores, 2 threads |\n| --- | --- | --- |\n| w | 10.0 times | 10.0 times |" in text
    assert text.count("### Optimizer steps") == 2
    assert "side by side" not in report.section(results(ROW))


def test_growth_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """With a picture for each machine that has rows, the same file for the same figures."""
    monkeypatch.setattr(report, "PAGE", tmp_path / "speed.md")
    row = {"benchmark": "growth", "work": "w", "series": "s", "unit": "rows", "theirs_ms": 4.0, "jax_ms": 2.0, "floor_ms": 1.0,
           "ratio": 2.0, "low": 2.0, "high": 2.0}  # fmt: skip
    given = results({**row, "size": 10}, {**row, "size": 100, "theirs_ms": 40.0})
    (plot,) = report.draw(given)
    assert plot == tmp_path / "growth-a-2-cores-2-threads.svg"
    assert f"]({plot.name})" in report.section(given)
    first = plot.read_bytes()
    report.draw(given)
    assert plot.read_bytes() == first
    assert report.draw(results(ROW)) == []


def test_means_agree_within_their_interval():
    near, far = [0.80, 0.82, 0.81, 0.79, 0.83], [0.90, 0.91, 0.92, 0.91, 0.90]
    assert accuracy.agree(near, [x + 0.005 for x in near])
    assert not accuracy.agree(near, far)
    # t(0.975, 4) s/sqrt(5) with s = 0.0158
    assert abs(accuracy.interval(near) - 0.0196) < 1e-4
    row = {"model": "HGCN", "graph": "cora", "task": "nc", "torch_scores": near, "jax_scores": far, "torch_seconds": 9.0,
           "jax_seconds": 3.0, "agree": False}  # fmt: skip
    assert accuracy.cells(row) == ["HGCN", "cora", "accuracy", "81.0 ± 2.0", "90.8 ± 1.0", "no", "9", "3"]


def test_a_run_replaces_the_rows_of_its_benchmarks_on_its_machine(monkeypatch: pytest.MonkeyPatch):
    rows = [{"benchmark": "optim", "n": 1}, {"benchmark": "hgat", "n": 1}]
    elsewhere = {**MACHINE, "cpu": "b"}
    old = {"runs": {report.name_of(on): {"machine": on, "rows": rows} for on in (MACHINE, elsewhere)}}
    monkeypatch.setattr(report, "load", lambda: old)
    runs = report.merged([{"benchmark": "hgat", "n": 2}], MACHINE)["runs"]
    assert runs["a, 2 cores, 2 threads"]["rows"] == [{"benchmark": "optim", "n": 1}, {"benchmark": "hgat", "n": 2}]
    assert runs["b, 2 cores, 2 threads"]["rows"] == rows
    assert report.name_of({**MACHINE, "device": "NVIDIA X"}) == "a, 2 cores, 2 threads, NVIDIA X"


def test_an_environment_that_cannot_be_made_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Of a row, not the end of a run."""
    monkeypatch.setattr(environments, "OUT", tmp_path)
    monkeypatch.setitem(environments.ENVIRONMENTS, "old", environments.Environment(("numpy==1",), "1.0"))
    row = compared("w", Side(sleeper, (0.0,), "old"), Side(sleeper, (0.0,)))
    assert row == {"work": "w", "not_measured": "Python 1.0 is not on this machine"}


def test_a_start_that_fails_is_a_reason(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(NotMeasured, match="ended with exit code 3: no such luck"):
        startup.started([sys.executable, "-c", "import sys; print('no such luck', file=sys.stderr); sys.exit(3)"], "")
    monkeypatch.setattr(startup, "PATIENCE", 0.2)
    with pytest.raises(NotMeasured, match=r"took more than 0\.2 s"):
        startup.started([sys.executable, "-c", "import time; time.sleep(60)"], "")
    found = startup.attempted(["a", "b"], lambda: startup.both("no such work", [], 1, 1.0).values())
    assert [row["work"] for row in found] == ["a", "b"]


def test_rounds_end_when_their_time_is_over():
    times = startup.Times("x", "y")
    times.fill(5, 0.5, lambda programs, side: time.sleep(0.15) or 1.0)
    assert times.medians() == {"x": 1.0, "y": 1.0, "processes": 1}


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
