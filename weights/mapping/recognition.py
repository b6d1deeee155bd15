"""Which architecture a file is of: by the name that the caller or the configuration gives, else by its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from weights.errors import Unmatched, Usage
from weights.files.sections import Sections, without_first
from weights.mapping.architecture import TREE, Architecture, Found
from weights.types import Config

Recognised = tuple[Architecture | None, Sections]
"""The architecture, None for a tree of parameters; and the file's parts, whose keys are then as the architecture has them."""


def recognised(known: Mapping[str, Architecture], name: str | None, parts: Sections, config: Config) -> Recognised:
    """The one of the `known` architectures that a file is of. Usage for an unknown name or several that fit, Unmatched for none."""
    name = name or (config.get("arch") if isinstance(config.get("arch"), str) else None)
    if name == TREE:
        return None, parts
    if name is not None:
        return _named(known, name, parts, config)
    for candidate in _candidates(parts):
        fitting = [table for table in known.values() if table.recognise(Found(candidate.tensors, config))]
        if len(fitting) > 1:
            raise Usage(f"the keys fit several architectures: {', '.join(t.name for t in fitting)}", "Choose one with --arch (arch=...)")
        if fitting:
            return fitting[0], candidate
    raise Unmatched(
        f"the keys ({', '.join(list(parts.tensors)[:3])}, ...) match none of the architectures {', '.join(known)}",
        "Give --arch tree (arch='tree') to convert them as a tree of parameters",
    )


def _named(known: Mapping[str, Architecture], name: str, parts: Sections, config: Config) -> Recognised:
    table = known.get(name.lower())
    if table is None:
        raise Usage(f"no architecture is called {name!r}", f"Known are {', '.join(known)} and {TREE}")
    for candidate in _candidates(parts):
        if table.recognise(Found(candidate.tensors, config)):
            return table, candidate
    raise Unmatched(
        f"the keys ({', '.join(list(parts.tensors)[:3])}, ...) are not those of {table.name}",
        "Check --arch (arch=...) and the file; --arch tree (arch='tree') accepts any keys",
    )


def _candidates(parts: Sections) -> Iterator[Sections]:
    """The parts as they are, and then without the first part of all keys, if they share one."""
    yield parts
    if (deeper := without_first(parts)) is not None:
        yield deeper


__all__ = ["recognised"]
