"""The names of files that are not ended yet, and which of them a process left that certainly ended."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"\.hyperport\.([0-9a-f]{8})\.(\d+)\.(\d+)\.[0-9a-f]{8}\.(\w+)")
PART = "part"


def name(kind: str = PART) -> str:
    """A new name that says which process of which machine has it."""
    return f".hyperport.{_machine()}.{os.getpid()}.{_begun(os.getpid())}.{secrets.token_hex(4)}.{kind}"


def left(folder: Path, kind: str = PART) -> Iterator[Path]:
    """What processes of this machine left in a folder under names of a kind, and ended."""
    here = _machine()
    for path in folder.glob(f".hyperport.*.{kind}"):
        found = _NAME.fullmatch(path.name)
        if found and found[1] == here and _ended(int(found[2]), found[3]):
            yield path


def owner(path: Path) -> str:
    """The part of such a name that says whose it is; "" for another name."""
    found = _NAME.fullmatch(path.name)
    return ".".join(found.groups()[:3]) if found else ""


def removed(path: Path) -> None:
    """Removes what there is at a path, as far as that is possible."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _machine() -> str:
    """A word for where a number names one process: the boot of a machine, and the container on it."""
    words = [platform.node()]
    with contextlib.suppress(OSError):
        words += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return f"{zlib.crc32(chr(0).join(words).encode()):08x}"


def _begun(pid: int) -> str:
    """When a process began, as its system counts; 0 where this cannot be known."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return "0"


def _ended(pid: int, begun: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _begun(pid) not in (begun, "0")


__all__ = ["PART", "left", "name", "owner", "removed"]
