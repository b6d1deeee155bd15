"""Files that come together: killed at each step, there is never one of an output beside one of another, and the next output ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parity_tests.weights.files.round_trips import everything
from weights.errors import NotWritten
from weights.files import outputs, temporaries, together

KILLED = """
import json, os, sys, types
from pathlib import Path
package = types.ModuleType("weights")  # without what it imports: jax begins threads, with which no process may be forked
package.__path__ = [sys.argv[1]]
sys.modules["weights"] = package
from weights.files import outputs

home, ahead = Path(sys.argv[2]), sys.argv[3:]
STEPS = ("link", "rename", "replace", "unlink")


def write(work, text):
    if "folder" in ahead:
        with outputs.new_directory(work / "f", lambda place: True, sign="sign") as new:
            for name in ("a", "sign", "z"):
                (new / name).write_text(text)
    else:
        with outputs.new_files(work / "a", work / "b", overwrite="old" in ahead) as new:
            for path in new:
                path.write_text(text)


def killed_at(step, work):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    left = [step]
    for name in STEPS:
        def count(*given, found=getattr(os, name), **named):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return found(*given, **named)
        setattr(os, name, count)
    write(work, "new")
    os._exit(0)


def there(work):
    return {str(path.relative_to(work)): path.read_text() for path in work.rglob("*") if path.is_file() and ".hyperport" not in str(path)}


for step in range(99):
    work = home / str(step)
    work.mkdir()
    if "links" in ahead:
        (home / f"disk{step}").mkdir()
        (work / "b").symlink_to(home / f"disk{step}" / "real")
    if "old" in ahead:
        write(work, "old")
    ended = not killed_at(step, work)
    found = there(work)
    if "mine" in ahead and not ended:
        (work / "a").unlink(missing_ok=True)
        (work / "a").write_text("somebody's")
    try:
        outputs.require_file(work / "c", False)
        write(work, "last") if "folder" in ahead else None
        error = ""
    except Exception as raised:
        error = str(raised)
    left = [path.name for path in work.rglob("*.pair")]
    print(json.dumps([ended, found, there(work), error, left]))
    if ended:
        break
"""


def killed(folder: Path, *ahead: str) -> list[Any]:
    """Of a kill before each step: whether the process had ended before, what was there then, and what after a look at the folder."""
    command = [sys.executable, "-c", KILLED, str(Path(outputs.__file__).parents[1]), str(folder), *ahead]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


NEW = {"a": "new", "b": "new"}


@pytest.mark.parametrize("ahead", [["old"], [], ["old", "links"]])
def test_a_pair_is_one_output_whenever_it_is_killed(ahead: list[str], tmp_path: Path):
    rows = killed(tmp_path, *ahead)
    old = dict.fromkeys("ab", "old") if "old" in ahead else {}
    assert len(rows) > 6
    for number, (ended, found, then, error, left) in enumerate(rows):
        assert len(set(found.values())) <= 1, f"step {number}: {found}"
        assert then in (old, NEW), f"step {number}: {then}"
        assert not error
        assert not left
        assert ended == (number == len(rows) - 1)
    if "links" not in ahead:  # there the journals of two folders are written one after the other
        assert [row[2] for row in rows] == sorted((row[2] for row in rows), key=lambda there: there == NEW)
    assert {str(sorted(row[1].items())) for row in rows} >= {str(sorted(old.items())), str(sorted(NEW.items())), "[('a', 'new')]"}


def test_what_somebody_has_changed_since_stays(tmp_path: Path):
    for ended, found, then, *_ in killed(tmp_path, "old", "mine"):
        if not ended:
            assert then["a"] == "somebody's"
            assert then.get("b") == found.get("b")


def test_the_sign_of_a_folder_is_away_while_its_files_are_replaced(tmp_path: Path):
    """TensorBoard finds a folder's files by its projector_config.pbtxt."""
    (tmp_path / "new").mkdir()
    for _, found, then, error, _ in killed(tmp_path / "new", "old", "folder"):
        assert "f/sign" not in found or len(set(found.values())) == 1, found
        assert then == dict.fromkeys(("f/a", "f/sign", "f/z"), "last"), error


def test_only_a_journal_of_ours_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not one of another user, nor one that moves what its process did not write."""
    dead = f".hyperport.{temporaries.owner(Path(temporaries.name())).split('.')[0]}.{os.getpid()}.1.00000000."
    for new in ("x", f"{dead}part"):
        (tmp_path / "x").write_text("x")
        (tmp_path / new).write_text("x")
        row = [new, "../y" if new == "x" else "y", None, together._stamp(tmp_path / new)]
        (tmp_path / f"{dead}pair").write_text(json.dumps([row, row]))
        before = everything(tmp_path)
        with monkeypatch.context() as patch:
            if new != "x":
                patch.setattr(os, "getuid", lambda: -1)
            together.settle(tmp_path)
        assert everything(tmp_path) == before
    (tmp_path / f"{dead}pair").write_text(json.dumps([row, row]))
    together.settle(tmp_path)
    assert (tmp_path / "y").read_text() == "x"


def test_an_interrupt_between_two_renames_leaves_the_old_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(text: str) -> None:
        with outputs.new_files(tmp_path / "a", tmp_path / "b", overwrite=True) as new:
            for path in new:
                path.write_text(text)

    write("old")
    for at in range(6):
        before, left, replace = everything(tmp_path), [at], os.replace

        def interrupted(source: Path, place: Path, left: list[int] = left, replace: Any = replace) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt
            replace(source, place)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", interrupted)
            try:
                write("new")
            except (KeyboardInterrupt, NotWritten):
                assert everything(tmp_path) == before
            else:
                assert everything(tmp_path) == {"a": b"new", "b": b"new"}
                assert at == 3  # the journal and the two
                return
    raise AssertionError("the pair was never replaced")
