"""Which architecture a file is of: by the name that the caller or the configuration gives, else by its keys."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from weights.errors import ConversionError, Unmatched, Usage
from weights.files.sections import Sections, without_first
from weights.files.tensors import Tensor
from weights.mapping import foreign
from weights.mapping.port import TREE, Found, Port
from weights.mapping.rules import Rule, matching
from weights.mapping.settings import Settings
from weights.types import Config

SIZES = re.compile(r"L\d+_W\d+(_A\d+)?")
"""What transformers' own configurations have as their `arch`: layers, width and heads."""
Recognised = tuple[Port | None, Sections]
"""The architecture, None for a tree of parameters; and the file's parts, whose keys are then as the architecture has them."""


def recognised(known: Mapping[str, Port], name: str | None, parts: Sections, config: Config) -> Recognised:
    """The one of the `known` architectures that a file is of. Usage for an unknown name or several that fit, Unmatched for none."""
    said = config.get("arch")
    name = name or (said if isinstance(said, str) and not SIZES.fullmatch(said) else None)
    if name == TREE:
        return None, parts
    if name is not None:
        return _named(known, name, parts, config)
    for candidate in candidates(parts):
        fitting = [table for table in known.values() if table.recognise is not None and table.recognise(Found(candidate.tensors, config))]
        if len(fitting) > 1:
            raise Usage(f"the keys fit several architectures: {', '.join(t.name for t in fitting)}", "Choose one with --arch (arch=...)")
        if fitting:
            return fitting[0], candidate
    raise _unmatched(
        parts, list(known.values()), config, f"the keys match none of the architectures {', '.join(known)}",
        "Write a port of your model, which `hyperport scaffold` begins from the file (docs/guide/own_model.md), or give --arch tree "
        "(arch='tree') to convert the numbers alone, as a tree of parameters",
    )  # fmt: skip


def _named(known: Mapping[str, Port], name: str, parts: Sections, config: Config) -> Recognised:
    table = known.get(name.lower())
    if table is None:
        raise Usage(f"no architecture is called {name!r}", f"Known are {', '.join(known)} and {TREE}")
    for candidate in candidates(parts):
        if table.recognise is not None and table.recognise(Found(candidate.tensors, config)):
            return table, candidate
    raise _unmatched(
        parts, [table], config, f"the keys are not those of {table.name}",
        "Check --arch (arch=...) and the file; --arch tree (arch='tree') accepts any keys",
    )  # fmt: skip


def _unmatched(parts: Sections, tables: Sequence[Port], config: Config, cause: str, remedy: str) -> Unmatched:
    """The error for keys that fit nothing; it shows those that are foreign, if that can be told."""
    if written := foreign.remedy(parts.tensors):
        keys, call = written
        return Unmatched(f"{cause}: {foreign.some(keys)} stand in the place of a tensor", f"Save the model after {call}")
    if near := _nearest(tables, parts.tensors, config):
        return Unmatched(f"{cause}: {near[0]} does not have {foreign.some(near[1])}", remedy)
    return Unmatched(f"{cause}; they are {foreign.some(list(parts.tensors))}", remedy)


def _nearest(known: Iterable[Port], tensors: Mapping[str, Tensor], config: Config) -> tuple[str, list[str]] | None:
    """The architecture whose table has most of the keys, and the keys that it does not have; None if none has half of them."""
    best: tuple[str, list[str]] | None = None
    for table in known:
        # A table asks for what its own files have; on others it may fail in any way.
        with contextlib.suppress(ConversionError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError):
            settings = Settings(config, {})
            if table.settle is not None:
                table.settle(Found(tensors, settings.config), settings)
            rules = [rule for rule in table.rules_of(settings.values) if isinstance(rule, Rule)]
            left = [key for key in tensors if not matching(rules, key)]
            if left and len(left) < len(best[1] if best else tensors) and 2 * len(left) < len(tensors):
                best = table.name, left
    return best


def candidates(parts: Sections) -> Iterator[Sections]:
    """The parts as they are, and then without the first part of all keys, if they share one."""
    yield parts
    if (deeper := without_first(parts)) is not None:
        yield deeper


__all__ = ["candidates", "recognised"]
