"""A place on disk where compiled programs stay, so that the first step of the next process does not wait for the compiler."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import time
import warnings
from pathlib import Path

__all__ = ["LIMIT", "cache_folder", "cache_variables", "compilation_cache"]

LIMIT = 2**30
"""How many bytes the programs in a folder take. Once a day, those beyond it that were not used for longest are deleted."""
_DAY = 24 * 60 * 60.0


def compilation_cache(folder: str | os.PathLike[str] | None = None, *, limit: int = LIMIT) -> Path | None:
    """Keep compiled programs on disk from now on, and use those that are there. Call it before the first computation.

    Several processes may use one folder, and kinds of processor that share a home directory do not share programs, since one may not know
    the instructions of another. A folder that is set already (`JAX_COMPILATION_CACHE_DIR`, `jax_compilation_cache_dir`) remains, unless
    `folder` is given. JAX finds a program by its code, its shapes, the versions and the flags; what it computes is the same.

    Arguments:
        folder: where the programs are kept; by default `cache_folder()`. Who can write there can run code here: it has to belong to you.
        limit: bytes; see `LIMIT`.

    Returns the folder, or None if there is none: `JAX_ENABLE_COMPILATION_CACHE` is off, or (with a warning) the folder cannot be used.

        import port_jax

        port_jax.compilation_cache()
    """
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    if not jax.config.values["jax_enable_compilation_cache"]:
        return None
    if folder is None and (chosen := jax.config.values["jax_compilation_cache_dir"]):
        return Path(chosen)
    home = cache_folder() if folder is None else Path(folder).absolute()
    if wrong := _unusable(home):
        warnings.warn(f"compiled programs are not kept: {wrong}; give compilation_cache a folder of your own", stacklevel=2)
        return None
    _bound(home, limit)
    for variable, value in _settings(home).items():
        jax.config.update(variable.lower(), value)
    reset_cache()  # JAX decides once in a process whether it has a cache
    return home


def cache_variables() -> dict[str, str]:
    """The same as variables of the environment, for a program that has not imported JAX yet; none if the folder cannot be used."""
    home = cache_folder()
    if _unusable(home):
        return {}
    _bound(home, LIMIT)
    return {name: str(value) for name, value in _settings(home).items()}


def cache_folder() -> Path:
    """The user's folder for programs that this kind of processor runs, such as ~/.cache/hyperport/programs-x86_64-0f1e2d3c."""
    from platformdirs import user_cache_path

    kind = hashlib.sha256(_processor().encode()).hexdigest()[:8]
    return user_cache_path("hyperport", appauthor=False) / f"programs-{platform.machine() or 'unknown'}-{kind}"


def _settings(folder: Path) -> dict[str, str | int]:
    """Every program is kept, however short: to find one takes a millisecond, to make one twenty."""
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0}


def _bound(folder: Path, limit: int) -> None:
    """Delete programs beyond the limit. JAX can do that itself, but reads the whole folder for each program that it adds."""
    marker = folder / "last-bounded"
    with contextlib.suppress(OSError):  # another process was faster
        if marker.exists() and time.time() - marker.stat().st_mtime < _DAY:
            return
        marker.touch()
        programs = [(max(found.st_atime, found.st_mtime), found.st_size, path) for path in folder.glob("*-cache") if (found := path.stat())]
        room = limit
        for _, size, path in sorted(programs, reverse=True):
            room -= size
            if room < 0:
                path.unlink(missing_ok=True)


def _processor() -> str:
    """What a compiler asks of the processor: its model and the instructions that it knows."""
    told = {"model name", "flags", "CPU implementer", "CPU part", "Features"}
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:  # another system than Linux
        return f"{platform.system()} {platform.processor()}"
    return "\n".join(line for line in lines if line.partition(":")[0].strip() in told)


def _unusable(folder: Path) -> str | None:
    """Why programs cannot be kept there; None if they can. The folder is made if it is missing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be made ({error.strerror})"
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return f"{folder} is not yours to write"
    if hasattr(os, "getuid"):
        found = folder.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o022:
            return f"others can write to {folder}, and so could run code in your name"
    return None
