"""From an opened file to variables: the architecture recognised, settings settled, every key given its place, points checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weights.errors import Unmatched, Usage
from weights.files.opening import Opened
from weights.files.sections import Sections
from weights.mapping import parameter_tree, points, port_manifolds
from weights.mapping.convert import plan, to_flax
from weights.mapping.entries import Entry
from weights.mapping.flax_modules import described
from weights.mapping.leaves import counted
from weights.mapping.manifold_trees import leaves
from weights.mapping.named_manifolds import shortened
from weights.mapping.port import Found, Port
from weights.mapping.recognition import candidates, recognised
from weights.mapping.report import reported
from weights.mapping.settings import Settings
from weights.mapping.standard import completed
from weights.types import Config, Curvature, Document, Hyperparameters, Manifolds, Model, NamedManifolds, Progress, Variables


@dataclass(frozen=True)
class Converted:
    """A file's model in JAX.

    table: its architecture; None for a tree of parameters. parts: the file's sections, with the architecture's keys. settings:
    what the model is built from. model: the flax module, None for a tree. entries: what each key became. variables, constants,
    manifolds, report: see `weights.contents`.
    """

    table: Port | None
    parts: Sections
    settings: Hyperparameters
    model: Model | None
    entries: list[Entry]
    variables: Variables
    constants: dict[str, np.ndarray]
    manifolds: Manifolds
    report: Document


def converted(file: Opened, known: Mapping[str, Port], arch: str | None, curvature: Curvature, given: NamedManifolds | None,
              trained: parameter_tree.Trained, progress: Progress | None, port: Port | None = None) -> Converted:  # fmt: skip
    """The model of a file, by a person's `port`, as one of the `known` architectures, or as a tree of parameters.

    arch, curvature, progress: as the caller gives them to `weights.load`; `given` are the manifolds. trained: what the optimizer's
    state tells of a tree. Raises Usage and Unmatched.
    """
    if port is not None and arch is not None:
        raise Usage(f"arch={arch!r} is given beside a port", "Omit one of them: --arch (arch=...) or --port (port=...)")
    config = file.config
    if port is None:
        table, parts = recognised(known, arch, file.parts, config or {})
        settings = Settings(config, {"curvature": curvature})
    else:
        table, parts, settings = port, *_fitting(port, file.parts, config, curvature)
    if table is None:
        given = shortened(given, parts.written)
        model, entries = None, parameter_tree.matched(parts, settings, trained, given)
        spaces = parameter_tree.manifolds(parts, entries, given, trained)
        flat = parameter_tree.flat(leaves(spaces), entries)
        flat = flat if len(flat) < len(leaves(spaces)) else []
    else:
        if given is not None:
            raise Usage(f"manifolds are given for arch='tree' only; {table.name} has its own", "Omit manifolds= (--manifold)")
        parts = table.parts_of(parts)
        model, entries = _matched(table, parts, settings)
        spaces, flat = None, []
    variables, constants = to_flax(parts.tensors, entries, counted(progress, entries))
    variables.setdefault("params", {})
    if table is not None:
        spaces = port_manifolds.beside(table, model, variables["params"])
        port_manifolds.require_pickled(table, spaces, variables["params"], parts.tensors, entries)
        if port is not None and spaces is None and (moved := trained.points(parts, entries)):
            raise Usage(
                f"the optimizer has moved {sorted(moved)[0]!r} as a point of a manifold, and the port does not say of which ({port.at})",
                "Give it manifolds={path: PoincareBall(...)}, or the flax module a method manifolds(params)",
            )
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


def _fitting(port: Port, parts: Sections, config: Config | None, curvature: Curvature) -> tuple[Sections, Settings]:
    """The file's parts whose keys are the port's: as they are, else without the first part of all keys, if they share one."""
    first: Unmatched | None = None
    for candidate in candidates(parts):
        settings = Settings(config, {"curvature": curvature})
        try:
            _matched(port, candidate, settings)
        except Unmatched as error:
            first = first or error
            continue
        return candidate, Settings(config, {"curvature": curvature})
    assert first is not None
    raise first


def _matched(table: Port, parts: Sections, settings: Settings) -> tuple[Model, list[Entry]]:
    """The flax module, and what each key becomes. Unmatched where settings, keys or shapes do not fit."""
    if table.settle is not None:
        table.settle(Found(parts.tensors, settings.config), settings)
    if settings.given.get("curvature") is not None and "curvature" not in settings.values:
        raise Usage(f"the file contains the curvatures of {table.name}", "Omit --curvature (curvature=...)")
    model, target = described(table, settings.values)
    shapes = {key: tensor.shape for key, tensor in parts.tensors.items()}
    rules = completed(table.rules_of(settings.values), shapes, target, parts.tensors if table.own else None)
    return model, plan(parts.tensors, rules, None if target is None else target.shapes, "" if table.settle else table.at)


__all__ = ["Converted", "converted"]
