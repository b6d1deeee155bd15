"""An error as text that replaces other text, and the tests that have to see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """In each file of `edits` every old text, which is there exactly once, becomes the new one; one of `tests` has to fail.

    tests: files and cases of parity_tests as pytest names them, the one that is most likely to fail first. A case that is named by its
    parameters, as are all tests of the mutation, runs also if it is slow.
    equivalent: why no test can see it, of an error that changes nothing; it is planted only in the table.
    """

    name: str
    edits: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...]
    equivalent: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it changes."""
        return tuple(dict.fromkeys(file for file, _, _ in self.edits))

    def planted(self, sources: Mapping[str, str]) -> dict[str, str]:
        """The texts of its files with the error in them. ValueError where a text to replace is not there exactly once."""
        texts = {file: sources[file] for file in self.files}
        for file, old, new in self.edits:
            if (count := texts[file].count(old)) != 1:
                raise ValueError(f"{self.name}: {old!r} is {count} times in {file}; it has to be there once")
            texts[file] = texts[file].replace(old, new)
        return texts


def error(name: str, file: str, old: str, new: str, *tests: str) -> Mutation:
    """One edit."""
    return Mutation(name, ((file, old, new),), tests)


def both(name: str, stem: str, old: str, new: str, *tests: str, reference: tuple[str, str] | None = None) -> Mutation:
    """The same error in port_jax and in reference_torch, which are compared with each other: only a third side can see it.

    reference: the old and the new text there, where they are others.
    """
    return Mutation(name, ((f"port_jax/{stem}", old, new), (f"reference_torch/{stem}", *(reference or (old, new)))), tests)
