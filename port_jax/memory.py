"""Memory that a process keeps instead of giving it back after every step."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_pages"]

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""glibc's names for what is set: malloc.h, M_TRIM_THRESHOLD and so on."""


def keep_pages() -> bool:
    """Lets glibc keep freed memory for the next step; True where it could be told so, which is on Linux with glibc.

    By default large arrays get fresh pages from the kernel, which fills them with zeros one by one, and go back to it when they are
    freed: at every step of a training run anew, on torch's side as on JAX's. README's table of speeds has
    torch's steps both ways. It holds for the whole process, for threads that start after the call: make it before the first array.
    All threads then share one arena, and the process keeps its peak of memory until it ends. `fit` makes the call itself.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
    accepted = [libc.mallopt(name, value) == 1 for name, value in settings.items()]
    return all(accepted)
