"""Who saves in a folder, and which unfinished checkpoints are removed: those that runs of fit began and did not live to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

from parity_tests.training.problem import count, counting
from port_jax.training import TrainingError, fit, writer
from port_jax.training.writer import UNFINISHED, Writer


def counted(folder: Path, steps: int):
    return fit(count, counting(), steps=steps, batch=jnp.zeros(1), every=1, folder=folder, progress=False)


def unfinished(folder: Path, step: int) -> Path:
    found = folder / "checkpoints" / f"{step}{UNFINISHED}"
    found.mkdir(parents=True)
    (found / "data").write_text("half")
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_only_what_a_run_of_fit_began_and_did_not_end_is_removed(tmp_path: Path):
    ours, theirs = unfinished(tmp_path, 8), unfinished(tmp_path, 9)
    (tmp_path / ".writer").write_text("8\n")
    counted(tmp_path, 2)
    assert not ours.exists()
    assert (theirs / "data").read_text() == "half"
    assert names(tmp_path) == {"checkpoints"}


def test_what_another_program_is_writing_is_not_overwritten(tmp_path: Path):
    counted(tmp_path, 1)
    theirs = unfinished(tmp_path, 3)
    with pytest.raises(TrainingError, match=r"3.orbax-checkpoint-tmp exists, and no run of fit began it: .* move it away"):
        counted(tmp_path, 4)
    assert (theirs / "data").read_text() == "half"
    theirs.rename(tmp_path / "elsewhere")
    assert counted(tmp_path, 4).state.step == 4


HOLDS = """
import sys, types
package = types.ModuleType("port_jax")  # without jax
package.__path__ = [sys.argv[1]]
training = types.ModuleType("port_jax.training")
training.__path__ = [sys.argv[1] + "/training"]
state = types.ModuleType("port_jax.training.state")
state.TrainingError = RuntimeError
sys.modules |= {"port_jax": package, "port_jax.training": training, "port_jax.training.state": state}
from pathlib import Path
from port_jax.training.writer import Writer
Writer(Path(sys.argv[2]), Path(sys.argv[2], "checkpoints")).begin(8)
print("begun", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(writer.fcntl is None, reason="this system has no locks on files")
def test_one_process_at_a_time(tmp_path: Path):
    """A living process's files stay; they are removed when it has been killed."""
    command = [sys.executable, "-c", HOLDS, str(Path(writer.__file__).parents[1]), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        theirs = unfinished(tmp_path, 8)
        with pytest.raises(TrainingError, match=r"another run saves its states in .*; wait until it has ended, or give another folder"):
            counted(tmp_path, 2)
        assert theirs.exists()
        process.kill()
        process.wait()
    counted(tmp_path, 2)
    assert not theirs.exists()
    assert names(tmp_path) == {"checkpoints"}


def test_a_run_within_a_run_has_another_folder(tmp_path: Path):
    first = Writer(tmp_path, tmp_path / "checkpoints")
    with pytest.raises(TrainingError, match="another run saves"):
        counted(tmp_path, 1)
    first.close()
    assert counted(tmp_path, 1).state.step == 1


def test_without_locks_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer, "fcntl", None)
    left = unfinished(tmp_path, 8)
    (tmp_path / ".writer").write_text("8\n")
    counted(tmp_path, 2)
    assert (left / "data").read_text() == "half"
    assert counted(tmp_path, 9).state.step == 9  # it is Orbax that replaces it, which is ours
    assert not left.exists()
