"""How much work it is to look at a file: it is read once, and each key costs the same however many there are."""

from __future__ import annotations

import cProfile
from pathlib import Path

import numpy as np
import pytest

import weights.files.reader
from weights.files.tensors import from_array
from weights.files.writer import write
from weights.views import inspect as views
from weights.views import terminal


def calls(path: Path) -> int:
    """The calls of functions that it takes to look at a file and to print what is in it."""
    with cProfile.Profile() as profile:
        views.show(views.inspect(path, arch="tree"))
    return sum(entry.callcount for entry in profile.getstats())


def test_work_grows_with_the_keys_and_not_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    read, paths = weights.files.reader._read, []

    def counted(path: Path, *rest: object) -> object:
        paths.append(path)
        return read(path, *rest)

    monkeypatch.setattr(weights.files.reader, "_read", counted)
    monkeypatch.setattr(terminal, "MOST", 20)
    work = {}
    for count in (2, 20, 60, 100):
        write(tmp_path / f"{count}.pth", {f"part.{n}.weight": from_array(np.zeros(2, np.float32)) for n in range(count)})
        work[count] = calls(tmp_path / f"{count}.pth")
    assert len(paths) == 4
    first, then = ((work[count] - work[count - 40]) / 40 for count in (60, 100))
    assert then < 1.1 * first < 1100, f"{first} and {then} calls for each key that is not printed"
    assert work[20] - work[2] < 18 * 4000
    assert "80 more rows: --json prints all" in capsys.readouterr().out
