"""What may be opened: a pipe would be waited for, and a device has no end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from weights.errors import Usage

_OTHERS = (
    (stat.S_ISFIFO, "a pipe: save what it gives to a file first"),
    (stat.S_ISSOCK, "a socket, not a file"),
    (stat.S_ISCHR, "a device, not a file"),
    (stat.S_ISBLK, "a device, not a file"),
)


def as_path(path: object) -> Path:
    """The path that a caller gives. Raises Usage for anything but text and paths, and for the null character, which no path has."""
    if not isinstance(path, (str, os.PathLike)) or "\0" in os.fsdecode(path):
        what = repr(path) if isinstance(path, (str, os.PathLike)) else f"a {type(path).__name__}"
        raise Usage(f"path is {what}", "Give a path, as text or a pathlib.Path")
    return Path(path)


def size_of(path: str | Path) -> int:
    """The size of a regular file. OSError for anything else, which says what it is."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file", str(path))
    for is_it, what in _OTHERS:
        if is_it(found.st_mode):
            raise OSError(errno.EINVAL, what, str(path))
    return found.st_size


__all__ = ["as_path", "size_of"]
