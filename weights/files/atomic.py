"""Outputs that appear whole: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from weights.errors import NotWritten

_EXCHANGE = 2
_HERE = -100


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """A temporary sibling of `path` that takes its place when the block ends without an error. NotWritten if that fails."""
    path = Path(path)
    temporary = _sibling(path)
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        raise NotWritten(f"cannot be written ({error.strerror or error})", "Check the folder and its free space", path=path) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_directory(path: str | Path, mark: str = "torch.json") -> Iterator[Path]:
    """A temporary sibling folder that takes `path`'s place, in one exchange, when the block ends without an error.

    An existing folder is replaced if it is empty or contains the file `mark`, by which this package knows its own; otherwise, and
    if the output cannot be written, NotWritten is raised.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (path / mark).exists())):
        ours = "a converted checkpoint" if mark == "torch.json" else f"a folder with {mark}"
        raise NotWritten(f"exists and is not {ours}", "Give another path (--out)", path=path)
    temporary = _sibling(path)
    try:
        temporary.mkdir()
        yield temporary
        for folder, _, files in os.walk(temporary):
            for name in files:
                _flush(Path(folder, name))
            _flush(Path(folder))
        _swap(temporary, path)
        _flush(path.parent)
    except OSError as error:
        raise NotWritten(f"cannot be written ({error.strerror or error})", "Check the folder and its free space", path=path) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sibling(path: Path) -> Path:
    if not path.parent.is_dir():
        raise NotWritten("its folder does not exist", f"Create {path.parent} first", path=path)
    for name in path.parent.glob(f".{path.name}.*.part"):  # left by a run that was killed
        owner = name.name.split(".")[-2]
        if not owner.isdigit() or not _runs(int(owner)):
            shutil.rmtree(name, ignore_errors=True) if name.is_dir() else name.unlink(missing_ok=True)
    return path.parent / f".{path.name}.{secrets.token_hex(4)}.{os.getpid()}.part"


def _runs(process: int) -> bool:
    """Whether a process of this number exists; yes where the system cannot be asked."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # someone else's
        return True
    return True


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap(new: Path, path: Path) -> None:
    """Puts `new` in the place of `path`; what was there is then at `new`."""
    if not path.exists():
        try:
            os.rename(new, path)
            return
        except OSError:
            if not path.exists():  # otherwise another process has just been here
                raise
    libc = ctypes.CDLL(None, use_errno=True)
    exchange = getattr(libc, "renameat2", None)
    if exchange is None or exchange(_HERE, os.fsencode(new), _HERE, os.fsencode(path), _EXCHANGE):
        # No exchange on this system: the old folder steps aside first, where `restore` finds it after a kill.
        aside = path.parent / f".{path.name}.old"
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(path, aside)
        os.rename(new, path)
        shutil.rmtree(aside, ignore_errors=True)


__all__ = ["new_directory", "new_file"]
