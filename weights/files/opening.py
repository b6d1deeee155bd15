"""A checkpoint file opened: its objects, where model, optimizer and scheduler are among them, and the configuration."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from weights.files.budget import Budget
from weights.files.config import read_config
from weights.files.reader import read, shards
from weights.files.sections import Choice, Sections, split
from weights.types import Config, Document


@dataclass(frozen=True)
class Opened:
    """The contents of the file at `path`, not yet interpreted.

    format, root: as `read` gives them. parts: the sections of `root`. config: the given configuration merged over the file's
    own; None if there is neither.
    """

    path: Path
    format: str
    root: object
    parts: Sections
    config: Document | None


def opened(path: Path, config: str | Path | Config | None, choice: Choice | None = None) -> Opened:
    """Reads the file's structure and the configuration. Unreadable where there is no model, Usage for a bad configuration or choice."""
    file = read(path)
    parts = split(file.root, choice)
    return Opened(path=path, format=file.format, root=file.root, parts=parts, config=read_config(config, parts.config))


def hashes(path: Path, format: str) -> dict[str, str]:
    """The SHA-256 of the file, and of the shards if it is an index of some, by name."""
    names = sorted(set(shards(path, Budget.of(path)).values())) if format == "sharded" else []
    found = {}
    for name in (path.name, *names):
        with open(path.parent / name, "rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


__all__ = ["Opened", "hashes", "opened"]
