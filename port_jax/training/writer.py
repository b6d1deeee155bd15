"""The one process that saves states in a folder, and which unfinished ones in it are its own and dead.

`folder/.writer` is locked for as long as a run saves there, and names the steps that it has begun to save. The lock goes with the process,
so where it can be had, whoever began those steps has ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from port_jax.training.state import TrainingError

try:
    import fcntl
except ImportError:  # not on this system: then it is never certain that another process has ended
    fcntl = None

__all__ = ["Writer"]

FILE = ".writer"
UNFINISHED = ".orbax-checkpoint-tmp"
"""What Orbax appends to the name of a checkpoint until it is complete."""
_WRITING: set[Path] = set()
"""The folders in which this process saves, as a lock does not exclude its own process."""


class Writer:
    """The right to save in `folder`. TrainingError if a living process has it."""

    def __init__(self, folder: Path, root: Path):
        self.folder, self.root, self.begun = folder.resolve(), root, set[int]()
        if self.folder in _WRITING:
            raise _occupied(folder)
        self.file, certain = _locked(folder)
        _WRITING.add(self.folder)
        self.begun = {int(line) for line in os.pread(self.file, 1 << 20, 0).split() if line.isdigit()}
        if certain:
            for step in self.begun:
                shutil.rmtree(self._unfinished(step), ignore_errors=True)
            os.truncate(self.file, 0)

    def begin(self, step: int) -> None:
        """Say that a step is going to be saved. TrainingError if another program is saving it, whose files Orbax would delete."""
        if self._unfinished(step).exists() and step not in self.begun:
            raise TrainingError(
                f"{self._unfinished(step)} exists, and no run of fit began it: another program may be writing there; give another folder, "
                "or move it away"
            )
        self.begun.add(step)
        os.lseek(self.file, 0, os.SEEK_END)
        os.write(self.file, b"%d\n" % step)

    def close(self) -> None:
        """Give the right back, when everything that was begun is complete."""
        _WRITING.discard(self.folder)
        if not any(self._unfinished(step).exists() for step in self.begun):
            with contextlib.suppress(OSError):
                (self.folder / FILE).unlink()
        os.close(self.file)

    def _unfinished(self, step: int) -> Path:
        return self.root / f"{step}{UNFINISHED}"


def _locked(folder: Path) -> tuple[int, bool]:
    """The open file, and whether it is certain that no other process has it."""
    while True:
        file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is None:
                return file, False
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(file)
            raise _occupied(folder) from None
        except OSError:  # a file system without locks
            return file, False
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(file).st_ino == os.stat(folder / FILE).st_ino:
                return file, True
        os.close(file)  # its last owner has removed it meanwhile


def _occupied(folder: Path) -> TrainingError:
    return TrainingError(f"another run saves its states in {folder}; wait until it has ended, or give another folder")
