"""Memory that a process keeps instead of returning it to the kernel after every step."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_pages"]

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""The parameters of glibc's mallopt that are set, M_TRIM_THRESHOLD and others of malloc.h."""


def keep_pages() -> bool:
    """Make glibc keep freed memory for the next step. Returns whether that was possible, which it is on Linux with glibc.

    By default large arrays get fresh pages from the kernel, which fills them with zeros one by one, and return them when they are
    freed. This happens at every step of a training run, in torch as in JAX. docs/speed.md has
    torch's steps both ways. The setting is for the whole process and for threads that start after the call, so call it before the first
    array is made. All threads then share one arena, and the process keeps its peak memory until it ends. `fit` calls it.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
    accepted = [libc.mallopt(name, value) == 1 for name, value in settings.items()]
    return all(accepted)
