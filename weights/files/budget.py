"""What reading one file may cost, so that a few bytes cannot take the time and the memory of a machine."""

from __future__ import annotations

from pathlib import Path

from weights.errors import Refused
from weights.files.inputs import size_of

STEPS, CHARACTERS, MEMORY = "steps", "characters", "bytes of memory"
DEPTH = 200
"""Containers inside of containers that a file may have: what reads, copies and writes them calls itself as often."""
OBJECT = 256
"""Bytes that a small object takes, with what refers to it."""
_LIMITS = {STEPS: (20_000, 1), CHARACTERS: (32 << 20, 1), MEMORY: (128 << 20, 32)}
"""What every file may spend, and what it may spend for each of its bytes."""


class Budget:
    """What the reading of a file has left to spend. Everything that hashes, unfolds, copies or inflates what a file contains spends it.

    What a file spells out byte by byte is bounded by its size. The budget bounds what the file makes of that: by referring to one object
    many times, by keys that share a hash, by claims of sizes, by compression. Steps take about a microsecond each, and are counted rather
    than timed, so that every machine reads the same files. Characters are those of names and values with everything unfolded, and
    of JSON. A file of n bytes may spend what `_LIMITS` says: a + b n of each. Checkpoints of 100,000 small tensors with the state of their
    optimizer spend less than half of it.
    """

    def __init__(self, size: int, remedy: str = "Save a plain state_dict"):
        self.size, self.remedy = 0, remedy
        self.left = {kind: start for kind, (start, _) in _LIMITS.items()}
        self.hashes: dict[int, int] = {}
        self.grow(size)

    @classmethod
    def of(cls, path: Path, **options: str) -> Budget:
        """The budget of a file."""
        return cls(size_of(path), **options)

    def grow(self, size: int) -> None:
        """Adds what a further file of this size may spend."""
        self.size += size
        for kind, (_, each) in _LIMITS.items():
            self.left[kind] += int(each * size)

    def spend(self, kind: str, amount: int, what: str = "reading it") -> None:
        """Refused if that much is not left; `what` says in the message for what it would be spent."""
        self.left[kind] -= amount
        if self.left[kind] < 0:
            start, each = _LIMITS[kind]
            limit = int(start + each * self.size)
            raise Refused(f"{what} would take more than {limit} {kind}, the limit for a file of {self.size} bytes", self.remedy)

    def hashed(self, table: object, key: object, size: int) -> None:
        """Spends the steps of putting a key of `size` parts into a table: it is compared with all keys there that share its hash."""
        place = hash((id(table), hash(key)))
        before = self.hashes.get(place, 0)
        self.hashes[place] = before + 1
        self.spend(STEPS, size * (1 + before), "comparing the keys of a dictionary")


__all__ = ["CHARACTERS", "DEPTH", "MEMORY", "OBJECT", "STEPS", "Budget"]
