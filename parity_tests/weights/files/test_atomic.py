"""Outputs that appear whole while several processes write: beside each other, and to one place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from weights.files import atomic

WRITER = """
import sys, time, types
from pathlib import Path
package = types.ModuleType("weights")  # without what it imports: jax takes longer than the writing
package.__path__ = [sys.argv[1]]
sys.modules["weights"] = package
from weights.files.atomic import new_directory, new_file

folder, name = Path(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(int(sys.argv[4])):
    for target in ("same", f"own_{name}"):
        with new_directory(folder / target) as new:
            for part in ("torch.json", "a", "b"):
                (new / part).write_text(name)
                time.sleep(0.001)
        with new_file(folder / f"{target}.bin") as new:
            with open(new, "w") as file:
                for part in range(4):
                    file.write(name * 5000)
                    file.flush()
                    time.sleep(0.001)
"""
TURNS = 20


def test_two_processes_write_at_once(tmp_path: Path):
    """Neither takes away what the other is writing, and what stands at a place is always one writer's, whole."""
    command = [sys.executable, "-c", WRITER, str(Path(atomic.__file__).parents[1]), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, name, str(TURNS)], **pipes) for name in "xy"]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if (tmp_path / "same.bin").exists():
            seen.add((tmp_path / "same.bin").read_text())
    errors = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], errors
    assert seen <= {"x" * 20000, "y" * 20000}
    for target, names in (("same", "xy"), ("own_x", "x"), ("own_y", "y")):
        texts = {path.read_text() for path in (tmp_path / target).iterdir()}
        assert len(texts) == 1
        assert texts <= {*names}
        assert {*(tmp_path / f"{target}.bin").read_text()} <= {*names}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f"{t}{e}" for t in ("same", "own_x", "own_y") for e in ("", ".bin")])


def test_what_a_killed_run_left_is_removed(tmp_path: Path):
    """Of a process that has ended, and only of the same target; that of one that runs stays."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, running, other = (tmp_path / n for n in (f".x.ab.{ended.pid}.part", f".x.cd.{os.getppid()}.part", f".z.ab.{ended.pid}.part"))
    for path in (left, running, other):
        path.write_text("half")
    with atomic.new_file(tmp_path / "x") as new:
        new.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([running, other, tmp_path / "x"])


def test_a_system_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """macOS has no /proc: another process's output stays there too."""
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: not path.is_relative_to("/proc") and exists(path))
    running = tmp_path / f".x.cd.{os.getppid()}.part"
    running.write_text("half")
    with atomic.new_file(tmp_path / "x") as new:
        new.write_text("whole")
    assert running.read_text() == "half"


def test_another_process_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """To a place that was empty when it was looked at: its folder is replaced as any other."""
    rename = os.rename

    def after_another(new: Path, path: Path) -> None:
        if not path.exists():
            path.mkdir()
            (path / "torch.json").write_text("theirs")
        rename(new, path)

    monkeypatch.setattr(os, "rename", after_another)
    with atomic.new_directory(tmp_path / "x") as new:
        (new / "torch.json").write_text("ours")
    assert (tmp_path / "x" / "torch.json").read_text() == "ours"
    assert [*tmp_path.iterdir()] == [tmp_path / "x"]
