"""From an opened file to variables: the architecture recognised, settings settled, every key given its place, points checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from weights.errors import Unmatched, Usage
from weights.files.opening import Opened
from weights.files.sections import Sections
from weights.mapping import parameter_tree, points
from weights.mapping.architecture import Architecture, Found
from weights.mapping.convert import plan, to_flax
from weights.mapping.entries import Entry, flatten
from weights.mapping.leaves import counted
from weights.mapping.manifold_trees import leaves
from weights.mapping.named_manifolds import shortened
from weights.mapping.recognition import recognised
from weights.mapping.report import reported
from weights.mapping.settings import Settings
from weights.types import Curvature, Document, Hyperparameters, Manifolds, Model, NamedManifolds, Progress, Variables


@dataclass(frozen=True)
class Converted:
    """A file's model in JAX.

    table: its architecture; None for a tree of parameters. parts: the file's sections, with the architecture's keys. settings:
    what the model is built from. model: the flax module, None for a tree. entries: what each key became. variables, constants,
    manifolds, report: see `weights.contents`.
    """

    table: Architecture | None
    parts: Sections
    settings: Hyperparameters
    model: Model | None
    entries: list[Entry]
    variables: Variables
    constants: dict[str, np.ndarray]
    manifolds: Manifolds
    report: Document


def converted(file: Opened, known: Mapping[str, Architecture], arch: str | None, curvature: Curvature, given: NamedManifolds | None,
              trained: parameter_tree.Trained, progress: Progress | None) -> Converted:  # fmt: skip
    """The model of a file, as one of the `known` architectures or as a tree of parameters.

    arch, curvature, progress: as the caller gives them to `weights.load`; `given` are the manifolds. trained: what the optimizer's
    state tells of a tree. Raises Usage and Unmatched.
    """
    config = file.config
    table, parts = recognised(known, arch, file.parts, config or {})
    settings = Settings(config, {"curvature": curvature})
    if table is None:
        given = shortened(given, parts.written)
        model, entries = None, parameter_tree.matched(parts, settings, trained, given)
        spaces = parameter_tree.manifolds(parts, entries, given, trained)
        flat = parameter_tree.flat(leaves(spaces), entries)
        flat = flat if len(flat) < len(leaves(spaces)) else []
    else:
        if given is not None:
            raise Usage(f"manifolds are given for arch='tree' only; {table.name} has its own", "Omit manifolds= (--manifold)")
        model, entries = _matched(table, parts, settings)
        spaces, flat = getattr(model, "manifolds", None), []
    variables, constants = to_flax(parts.tensors, entries, counted(progress, entries))
    variables.setdefault("params", {})
    points.check(spaces, variables["params"], entries)
    report = reported(file, table, parts, settings, entries)
    if flat:
        report["on_no_manifold"] = flat
    return Converted(
        table=table,
        parts=parts,
        settings=settings.values,
        model=model,
        entries=entries,
        variables=variables,
        constants=constants,
        manifolds=spaces,
        report=report,
    )


def _matched(table: Architecture, parts: Sections, settings: Settings) -> tuple[Model, list[Entry]]:
    """The flax module, and what each key becomes. Unmatched where settings, keys or shapes do not fit."""
    table.settle(Found(parts.tensors, settings.config), settings)
    if settings.given.get("curvature") is not None and "curvature" not in settings.values:
        raise Usage(f"the file contains the curvatures of {table.name}", "Omit --curvature (curvature=...)")
    rules = table.rules(settings.values)
    try:
        model = table.build(settings.values)
        shapes = jax.eval_shape(model.init, jax.random.key(0), *table.inputs(settings.values))
    except (ValueError, TypeError) as error:
        raise Unmatched(f"no {table.name} can be built from the settings: {error}", "Correct the configuration") from None
    targets = {path: tuple(s.shape) for path, s in flatten(shapes).items()}  # pyright: ignore[reportAttributeAccessIssue]
    return model, plan(parts.tensors, rules, targets)


__all__ = ["Converted", "converted"]
