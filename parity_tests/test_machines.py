"""`make test-machines`: what its settings lead to, what it counts, what it keeps, and when it fails."""

import json
import platform
import sys
from pathlib import Path

import pytest

from parity_tests import machines
from parity_tests.machines import Row

TESTS = """
import pytest
def test_good(): pass
@pytest.mark.parametrize("a", ["1-a b"])
def test_bad(a): assert False
@pytest.mark.skip
def test_left(): pass
"""


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machines, "OUT", tmp_path / "out")
    monkeypatch.setattr(machines, "commit_of", lambda: "abc")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    (tmp_path / "test_it.py").write_text(TESTS)
    return tmp_path / "out"


def test_rows_are_counted_kept_and_not_repeated(out: Path, capsys: pytest.CaptureFixture[str]):
    """Both rows write to a file, so that what has run can be counted."""
    ran = out.parent / "ran"
    note = (sys.executable, "-c", f"open({str(ran)!r}, 'a').write('x')")
    pytest_here = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", str(out.parent))
    rows = [
        Row(("good",), "good-1", (note,), python="true"),
        Row(("bad",), "bad-1", (note, pytest_here), python="true"),
        Row(("far",), "far-1", (note,), missing="no such machine"),
    ]
    assert machines.main(["good", "far"], rows) == 0
    assert ran.read_text() == "x"
    assert machines.main([], rows) == 1
    assert ran.read_text() == "xx"  # the good row had passed
    good, bad, far = (json.loads((out / f"{row.name}.json").read_text()) for row in rows)
    assert (bad["passed"], bad["failed"], bad["skipped"]) == (1, 1, 1)
    assert bad["failing"] == ["test_it::test_bad[1-a b]"]
    assert good["failing"] == []
    assert far["seen"] == "not run: no such machine"
    assert "test_it::test_bad[1-a b]" in capsys.readouterr().out
    assert "1 failed" in (out / "bad-1.log").read_text()
    assert machines.main(["good"], rows) == 0
    assert machines.main(["bad-1"], rows) == 1
    assert ran.read_text() == "xxx"


def test_a_part_of_the_suite_does_not_count_as_the_whole(out: Path, monkeypatch: pytest.MonkeyPatch):
    ran = out.parent / "ran"
    rows = [Row(("x",), "x", ((sys.executable, "-c", f"open({str(ran)!r}, 'a').write('x')"),), python="true")]
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k nothing")
    assert machines.main([], rows) == 0
    monkeypatch.delenv("PYTEST_ADDOPTS")
    assert machines.main([], rows) == 0
    assert machines.main([], rows) == 0
    assert ran.read_text() == "xx"


def test_a_command_that_fails_without_tests_is_a_failure(out: Path):
    rows = [Row(("x",), "x", ((sys.executable, "-c", "raise SystemExit(3)"),), python="true")]
    assert machines.main([], rows) == 1
    row = json.loads((out / "x.json").read_text())
    assert row["failing"][0].endswith("ended with exit code 3")


def test_names_are_those_of_rows(out: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        machines.main(["isa", "no-such-row"], [Row(("isa",), "isa-AVX2", ())])
    assert "no-such-row" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow  # the rows of `make test-machines` show what took effect
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the settings are those of x86-64 processors")
def test_settings_take_effect(out: Path):
    """XLA keeps to the instructions and threads that it is told, torch to its own."""
    pytest.importorskip("torch")
    known = {row.name: row for row in machines.rows()}
    variables = {**known["isa-SSE4_2-aten-default"].variables, **known["seed-7-threads-torch-2-jax-1"].variables}
    assert machines.main([], [Row(("all",), "all", (), variables)]) == 0
    row = json.loads((out / "all.json").read_text())
    assert "on 1 threads, not fused; torch" in row["seen"]
    assert row["seen"].endswith("on 2, DEFAULT")


def test_help_names_the_parts():
    """`make help` lists the parts by hand."""
    listed = (machines.HOME / "Makefile").read_text().split("some parts of it:")[1].split("make setup")[0].replace('@echo "', " ").split()
    parts = dict.fromkeys(part for row in machines.rows() for part in row.parts)
    assert [word.strip('")') for word in listed if word.strip('")')] == list(parts)
