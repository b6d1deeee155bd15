"""How far a command is, on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weights.types import Progress


class progress:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, what: str):
        self.what, self.bar = what, None

    def __enter__(self) -> Progress | None:
        if not sys.stderr.isatty():
            return None
        from tqdm import tqdm

        self.bar = tqdm(desc=self.what, unit="tensor", leave=False, disable=None)

        def advance(key: str, done: int, total: int) -> None:
            assert self.bar is not None
            self.bar.total = total
            self.bar.update(1)

        return advance

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


__all__ = ["progress"]
