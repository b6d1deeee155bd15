"""Outputs that appear whole or not at all, and never over what somebody else wrote.

They are written beside their place, flushed to disk, then renamed. A symbolic link stays, and what it points to is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from weights.errors import NotWritten, Usage
from weights.files import temporaries
from weights.files.together import put, settle, synced

try:
    import fcntl
except ImportError:  # not on this system: then two processes must not write one folder at once
    fcntl = None

FORCE = "Give another path, or replace it with --force (in Python: overwrite=True)"
PATIENCE = 3.0
_REMEDIES = {
    errno.ENAMETOOLONG: "Give a shorter name",
    errno.ELOOP: "Give another path, without links that lead to each other",
    errno.EROFS: "Give a path on a disk that can be written",
    errno.ENOTDIR: "Give another path, whose folders are folders",
}
_STAGED = ".hyperport.new"


def require_file(path: str | Path, overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> None:
    """Raises NotWritten where a file cannot be put: over an input of the same command, over what exists unless `overwrite`.

    Before that, the files there that a process of ours was renaming when it ended are where they belong.

    inputs: the files that the command reads, and folders, of which it reads whatever is in them.
    """
    with _told(path):
        place = _place(Path(path))
        if place.is_dir():
            raise NotWritten("is a folder", "Give the path of a file", path=path)
        if _is_read(place, inputs):
            raise NotWritten("is a file that this command reads", "Give another path", path=path)
        if place.exists() and not place.is_file():
            raise NotWritten("is not a regular file", "Give the path of a file", path=path)
        settle(place.parent)
        if place.exists() and not overwrite:
            raise NotWritten("exists already", FORCE, path=path)
        _require_parent(place, path)


def require_files(paths: Sequence[str | Path], overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> None:
    """What `require_file` says of each of several files that are written together. Raises Usage where two of them are one."""
    inputs, places = list(inputs), set()
    for path in paths:
        require_file(path, overwrite, inputs)
        with _told(path):
            place = _place(Path(path))
        if place in places:
            raise Usage("two outputs of this command would be written there, one over the other", "Give each its own path", path=path)
        places.add(place)


def require_folder(path: str | Path, ours: Callable[[Path], bool], overwrite: bool, entries: Iterable[str] = (),
                   inputs: Iterable[str | Path | None] = ()) -> None:  # fmt: skip
    """Raises NotWritten where a folder cannot be put: over a file, and into a folder that is neither empty nor `ours` unless `overwrite`.

    entries: the names that will be replaced in the folder. None of them may be one of the inputs, be in one, or contain one; and in a
    folder that is not `ours`, none of them may be there, whatever `overwrite` says.
    """
    with _told(path):
        place, inputs, entries = _place(Path(path)), list(inputs), list(entries)
        for name in entries:
            if _is_read(place / name, inputs):
                raise NotWritten(f"its {name} is a file that this command reads", "Give another path", path=path)
        if place.exists() and not place.is_dir():
            raise NotWritten("exists and is not a folder", "Give another path", path=path)
        mine = not place.is_dir() or ours(place)
        if not mine and (others := [name for name in entries if os.path.lexists(place / name)]):
            what = f"contains {' and '.join(others)}, which this command did not write and would replace"
            raise NotWritten(what, "Give another path, or move that away", path=path)
        if not mine and any(place.iterdir()) and not overwrite:
            remedy = "Give another path, or write into it with --force (in Python: overwrite=True); its other files stay"
            raise NotWritten("exists, and was not written by this command", remedy, path=path)
        _require_parent(place, path)


@contextlib.contextmanager
def new_file(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary sibling of `path` that takes its place when the block ends without an error. NotWritten if that fails."""
    with new_files(path, overwrite=overwrite) as (temporary,):
        yield temporary


@contextlib.contextmanager
def new_files(*paths: str | Path, overwrite: bool = False) -> Iterator[list[Path]]:
    """Temporary siblings of files that take their places together when the block ends without an error.

    NotWritten if that fails, and if one of them exists, unless `overwrite`; all that was there before is then still there. If the process
    dies while they take their places, no file of this output stands beside one of another, and the next output to the folder ends it.
    """
    require_files(paths, overwrite)
    with _told(paths[0]):
        places = [_place(Path(path)) for path in paths]
        temporary_files = [_temporary(place) for place in places]
    try:
        yield temporary_files
        for temporary in temporary_files:
            synced(temporary)
        put(temporary_files, places, overwrite)
        for folder in {place.parent for place in places}:
            synced(folder)
    except OSError as error:
        raise _failed(error, paths[0]) from None
    finally:
        for temporary in temporary_files:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_directory(path: str | Path, ours: Callable[[Path], bool], overwrite: bool = False, sign: str | None = None) -> Iterator[Path]:
    """A temporary sibling folder whose entries come into `path` together when the block ends without an error.

    In a folder that exists, entries of the same names are replaced, and all others stay. If the process dies while it replaces them,
    `entry` finds the new ones, and the next output to the folder ends the replacement. NotWritten as `require_folder` says, and if the
    output cannot be written.

    sign: the entry by which another program, which knows nothing of `entry`, finds the others. It is away while they are replaced.
    """
    require_folder(path, ours, overwrite)
    with _told(path):
        place = _place(Path(path))
        temporary = _temporary(place)
    try:
        temporary.mkdir()
        yield temporary
        for folder, _, files in os.walk(temporary):
            for name in files:
                synced(Path(folder, name))
            synced(Path(folder))
        _merge(temporary, place, sign)
        synced(place.parent)
    except OSError as error:
        raise _failed(error, path) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def entry(folder: Path, name: str) -> Path:
    """Where an entry of a folder is that `new_directory` wrote: also where the process died while it replaced the entries."""
    staged = folder / _STAGED / name
    return staged if staged.exists() else folder / name


@contextlib.contextmanager
def settled(folder: Path) -> Iterator[None]:
    """A block in which no other process replaces the entries of the folder; one that was stopped while it does so is not waited for.

    At any moment `entry` finds the old entries or the new ones; only who reads while they move could miss one.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(TimeoutError):
            held.enter_context(_locked(folder, PATIENCE, shared=True))
        yield


def _place(path: Path) -> Path:
    """What a path leads to, through all links. OSError for links that lead to each other."""
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return place


def _is_read(place: Path, inputs: Iterable[str | Path | None]) -> bool:
    """Whether what is at a place is an input, in a folder that is one, or a folder with one in it."""
    if not place.exists():
        return False
    around = _around(place)
    for read in inputs:
        if read is not None and os.path.exists(read):
            here = _around(Path(read))
            if any(os.path.samefile(here[0], folder) for folder in around) or any(os.path.samefile(place, folder) for folder in here):
                return True
    return False


def _around(path: Path) -> list[Path]:
    """What a path leads to, and all folders around it."""
    place = _place(path)
    return [place, *place.parents]


def _require_parent(place: Path, path: str | Path) -> None:
    if not place.parent.is_dir():
        raise NotWritten("its folder does not exist", f"Create {place.parent} first", path=path)


@contextlib.contextmanager
def _told(path: str | Path) -> Iterator[None]:
    """A block that looks at an output's place, where the system may not let it: NotWritten."""
    try:
        yield
    except OSError as error:
        raise _failed(error, path) from None


def _failed(error: OSError, path: str | Path) -> NotWritten:
    remedy = _REMEDIES.get(error.errno or 0, "Check the folder and its free space")
    return NotWritten(f"cannot be written ({error.strerror or error})", remedy, path=path)


def _temporary(place: Path) -> Path:
    """A new name beside the output. What a process left there that certainly ended is removed."""
    settle(place.parent)
    for left in temporaries.left(place.parent):
        temporaries.removed(left)
    return place.with_name(temporaries.name())


def _merge(new: Path, place: Path, sign: str | None) -> None:
    """Puts the entries of `new` into `place`, those of an output that was not ended first."""
    with contextlib.suppress(OSError):  # there is none, or it is empty
        os.rename(new, place)
        return
    for each in new.iterdir():
        _require_replaceable(place / each.name)
    with _locked(place, 10 * PATIENCE):
        staged = place / _STAGED
        if staged.exists():
            _end(staged, place, sign)
        os.rename(new, staged)
        synced(place)
        _end(staged, place, sign)
        synced(place)


def _end(staged: Path, place: Path, sign: str | None) -> None:
    """Moves the staged entries to their places. After each step, `entry` finds every entry."""
    if sign is not None and (staged / sign).exists() and not (place / sign).is_symlink():
        (place / sign).unlink(missing_ok=True)
        synced(place)
    for new in sorted(staged.iterdir(), key=lambda new: (new.name == sign, new.name)):
        old = place / new.name
        if new.name.startswith(_STAGED):  # an old entry that was moved aside
            continue
        if old.is_symlink():
            _write_through(new, _place(old))
            continue
        if old.is_dir():
            os.rename(old, staged / f"{_STAGED}.{new.name}")
        os.replace(new, old)
    shutil.rmtree(staged)


def _require_replaceable(entry: Path) -> None:
    """OSError for a link to anything but a file, or a place for one."""
    if not entry.is_symlink():
        return
    to = _place(entry)
    if (to.exists() and not to.is_file()) or not to.parent.is_dir():
        raise FileExistsError(f"its {entry.name} is a link to {to}, where no file can be put")


def _write_through(new: Path, place: Path) -> None:
    """Puts a copy of a file where a link leads to, perhaps on another disk. `new` stays, where `entry` finds it until all is done."""
    temporary = _temporary(place)
    try:
        shutil.copyfile(new, temporary)
        synced(temporary)
        os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path, seconds: float, shared: bool = False) -> Iterator[None]:
    """TimeoutError if another process has the folder for longer."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        until = time.monotonic() + seconds
        while not _taken(handle, shared):
            if time.monotonic() > until:
                raise TimeoutError("another process is writing to it")
            time.sleep(0.02)
        yield
    finally:
        os.close(handle)


def _taken(handle: int, shared: bool) -> bool:
    """Whether the lock is ours now. On a file system without locks it always is."""
    if fcntl is not None:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return True


__all__ = ["entry", "new_directory", "new_file", "new_files", "require_file", "require_files", "require_folder", "settled"]
