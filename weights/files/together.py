"""Several files that take their places together: all of them, or none, also where the process dies while it renames them.

No system renames two files at once. What is about to be renamed is written down first, beside the places, and whoever writes there next
renames the rest. Until then no file stands beside one of another output: all but the first are away before the first is replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from weights.files import temporaries

JOURNAL = "pair"
_LONGEST = 1 << 20
"""Bytes of a journal."""


class _Move(NamedTuple):
    """A file on its way: where it is, where it goes, and the stamps of what is at the place, or None, and of the file itself."""

    new: Path
    place: Path
    before: list[int] | None
    after: list[int] | None


def put(new: Sequence[Path], places: Sequence[Path], overwrite: bool) -> None:
    """Renames all or none: after an error, what was there is there again. Without `overwrite`, never over a file that has appeared."""
    moves = [_Move(one, place, _stamp(place) if overwrite else None, _stamp(one)) for one, place in zip(new, places, strict=True)]
    asides: list[tuple[Path, Path]] = []
    with _written_down(moves):
        try:
            for place in reversed(places):
                if overwrite and len(places) > 1 and place.exists():
                    asides.append((place, place.with_name(temporaries.name())))
                    _keep(*asides[-1]) if place == places[0] else os.rename(*asides[-1])
            for one, place in zip(new, places, strict=True):
                os.replace(one, place) if overwrite else _rename_to_new(one, place)
        except BaseException:
            _put_back(moves, asides)
            raise
        for _, aside in asides:
            aside.unlink(missing_ok=True)


def settle(folder: Path) -> None:
    """Renames what is left of the files that a process of ours was renaming in this folder when it ended.

    Only if nobody has changed any of the places since then; otherwise they stay as they are. A journal that is not ours stays, too.
    """
    for journal in temporaries.left(folder, JOURNAL):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            moves = _read(journal)
            if all(_ended(move) or _possible(move) for move in moves):
                for move in moves:
                    _end(move)
            journal.unlink()


@contextlib.contextmanager
def _written_down(moves: Sequence[_Move]) -> Iterator[None]:
    """A block that `settle` ends if the process dies in it. A single rename needs none."""
    folders = {move.place.parent for move in moves} if len(moves) > 1 else set[Path]()
    journals = [folder / temporaries.name(JOURNAL) for folder in folders]
    try:
        for journal in journals:
            rows = [[*(os.path.relpath(path, journal.parent) for path in move[:2]), *move[2:]] for move in moves]
            part = journal.with_name(temporaries.name())
            try:
                part.write_text(json.dumps(rows))
                synced(part)
                os.replace(part, journal)
            finally:
                part.unlink(missing_ok=True)
            synced(journal.parent)
        yield
        for folder in folders:
            synced(folder)
    finally:
        for journal in journals:
            journal.unlink(missing_ok=True)


def _read(journal: Path) -> list[_Move]:
    """ValueError for a journal that is not one of this user's, or that moves what its process did not write."""
    found = journal.lstat()
    user = getattr(os, "getuid", int)()  # 0 where files have no owners
    if found.st_uid != user or found.st_size > _LONGEST or journal.is_symlink():
        raise ValueError("not ours")
    rows = json.loads(journal.read_text())
    home = journal.parent
    moves = [_Move(_from(home, new), _from(home, place), before, after) for new, place, before, after in rows]
    if any(temporaries.owner(move.new) != temporaries.owner(journal) or move.new.parent != move.place.parent for move in moves):
        raise ValueError("not ours")
    return moves


def _from(folder: Path, path: str) -> Path:
    return Path(os.path.normpath(folder / path))


def _ended(move: _Move) -> bool:
    return move.after is not None and _stamp(move.place) == move.after


def _possible(move: _Move) -> bool:
    return move.after is not None and _stamp(move.new) == move.after and _stamp(move.place) in (None, move.before)


def _end(move: _Move) -> None:
    if _ended(move):  # perhaps by a link, of which the other name was to be removed
        move.new.unlink(missing_ok=True)
    elif move.before is None:
        _rename_to_new(move.new, move.place)
        move.new.unlink(missing_ok=True)
    else:
        os.replace(move.new, move.place)


def _put_back(moves: Sequence[_Move], asides: Sequence[tuple[Path, Path]]) -> None:
    """What was there again, and nothing where nothing was. What cannot be put back stays aside."""
    kept = {place for place, _ in asides}
    for move in moves:
        if move.place not in kept and len(moves) > 1 and _stamp(move.place) == move.after:
            move.place.unlink()
    for place, aside in asides:
        with contextlib.suppress(OSError):  # as where it had not been moved
            os.replace(aside, place) if place.exists() else os.rename(aside, place)
            aside.unlink(missing_ok=True)  # as where both are names of one file: then nothing was renamed


def _stamp(path: Path) -> list[int] | None:
    """What a file keeps when it is renamed, and loses when somebody else writes one in its place."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _rename_to_new(new: Path, place: Path) -> None:
    """Never over a file that has appeared since it was looked for."""
    try:
        os.link(new, place)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if place.exists():
            raise FileExistsError(f"{place} exists") from None
        os.replace(new, place)


def _keep(place: Path, kept: Path) -> None:
    try:
        os.link(place, kept)
    except OSError:
        shutil.copy2(place, kept)


def synced(path: Path) -> None:
    """Waits until a file or a folder is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


__all__ = ["put", "settle", "synced"]
