"""A file's keys against an architecture: settings settled, the flax module built, every key of the file given its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from weights.errors import Unmatched, Usage
from weights.files.sections import Sections
from weights.mapping import convert
from weights.mapping.architecture import Architecture, Found
from weights.mapping.entries import Entry, flatten
from weights.mapping.settings import Settings


def matched(table: Architecture, parts: Sections, settings: Settings) -> tuple[Any, list[Entry]]:
    """The flax module, and what each key becomes. Unmatched where settings, keys or shapes do not fit."""
    table.settle(Found(parts.tensors, settings.config), settings)
    if settings.given.get("curvature") is not None and "curvature" not in settings.values:
        raise Usage(f"the curvatures of {table.name} are in the file", "Leave --curvature out (curvature=...)")
    rules = table.rules(settings.values)
    try:
        model = table.build(settings.values)
        shapes = jax.eval_shape(model.init, jax.random.key(0), *table.inputs(settings.values))
    except (ValueError, TypeError) as error:
        raise Unmatched(f"the settings make no {table.name}: {error}", "Check the configuration") from None
    targets = {path: tuple(s.shape) for path, s in flatten(shapes).items()}  # pyright: ignore[reportAttributeAccessIssue]
    return model, convert.plan(parts.tensors, rules, targets)


def own_manifolds(table: Architecture, model: Any, given: Mapping[str, Any] | None) -> Any:
    """The manifolds of the module's parameters, as it gives them; Usage where the caller names some."""
    if given is not None:
        raise Usage(f"manifolds is for arch='tree'; {table.name} has its own", "Leave it out")
    return getattr(model, "manifolds", None)
