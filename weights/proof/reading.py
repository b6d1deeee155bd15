"""A file read anew beside its conversion: what the torch side of `verify` is built from, and what both readings say differently."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from port_jax.manifolds.base import Manifold
from weights.checkpoint import Checkpoint, load
from weights.contents import Contents
from weights.errors import ConversionError, Unmatched, Usage
from weights.files import places
from weights.files.opening import Opened, opened
from weights.files.sections import Choice, split_again, without_first
from weights.mapping.manifold_trees import leaves, to_json
from weights.mapping.port import TREE, Port
from weights.optim.owners import Groups
from weights.optim.plan import Plan
from weights.proof.rows import MANIFOLD
from weights.types import Config, Curvature, Document, NamedManifolds

ABSENT = "absent"
OPTIMIZER = "optimizer"
OPTIMIZERS = "the optimizers, in order"


@dataclass(frozen=True)
class Said:
    """What a person says of a file: the arguments of `weights.load` of the same names. None for what is not said."""

    config: str | Path | Config | None = None
    arch: str | None = None
    curvature: Curvature = None
    manifolds: NamedManifolds | None = None
    groups: Groups = None
    optimizer: str | Mapping[str, str] | None = None
    updates_per_step: int | None = None
    without_state: str | None = None
    section: str | None = None
    prefix: str | None = None
    optimizer_at: str | None = None
    port: Port | None = None


@dataclass(frozen=True)
class Reading:
    """A file, read from itself and from what a person says.

    checkpoint: the conversion of this reading. unconfirmed: what nothing but the configuration, an option or a default says, and what was
    taken from the conversion because nobody said it; each with the reason.
    """

    checkpoint: Checkpoint
    unconfirmed: Mapping[str, str]


@dataclass(frozen=True)
class Difference:
    """A fact of which the conversion says something else than the reading."""

    what: str
    conversion: str
    reading: str


def read_anew(path: Path, conversion: Checkpoint, said: Said) -> Reading:
    """Reads the file. Only what nobody says and the file does not contain is taken from the conversion, and is unconfirmed.

    Raises a ConversionError where what is said does not fit the file.
    """
    file = opened(path, None, Choice(said.section, said.prefix, said.optimizer_at))
    arguments: dict[str, Any] = {**vars(said), OPTIMIZER: said.optimizer or True}
    taken = _places(conversion, file, said, arguments)
    if said.config is None and _text(conversion.config) != _text(file.config or {}):
        arguments["config"], taken["configuration"] = conversion.config, "taken from the conversion: give --config"
    if said.curvature is None and _source(conversion, "curvature") == "option":
        arguments["curvature"], taken["curvature"] = conversion.settings["curvature"], "taken from the conversion: give --curvature"
    if said.arch is None and conversion.arch == TREE:
        arguments["arch"] = TREE
    if said.port is None and conversion.own_port:
        arguments["port"] = conversion.port
    if conversion.arch == TREE and said.manifolds is None and said.arch in (None, TREE):
        arguments["manifolds"] = _unpickled(conversion) or None
    if not conversion.plans and said.optimizer is None:
        arguments[OPTIMIZER] = False
        if file.parts.optimizers:
            taken[OPTIMIZER] = "left out of the conversion"
    elif said.groups is None and any(plan.source == "option groups" for plan in conversion.plans):
        arguments["groups"], taken["groups"] = _listed(conversion), "taken from the conversion: give --group"
    fresh = _loaded(path, conversion, arguments, taken)
    if _undetermined(fresh) and not _undetermined(conversion) and conversion.plans and said.updates_per_step is None:
        arguments["updates_per_step"] = next(plan.per_step for plan in conversion.plans if plan.scheduler is not None)
        taken["updates per step of the scheduler"] = "taken from the conversion: give --updates-per-step"
        fresh = _loaded(path, conversion, arguments, taken)
    if said.without_state is None and any(p.still for p in fresh.plans) and not any(p.still for p in conversion.plans):
        arguments["without_state"] = "trained"
        taken["parameters without a state"] = "taken from the conversion: give --without-state"
        fresh = _loaded(path, conversion, arguments, taken)
    if fresh.arch == TREE:
        why = "taken from the conversion: give --manifold" if said.manifolds is None else _reason({"from": "option"})
        taken.update({MANIFOLD + key: why for key in _unpickled(fresh)})
    if (theirs := conversion.report.get("sha256")) != fresh.report["sha256"]:
        taken["the file's hash"] = f"the conversion was made of {_text(theirs):.20}..., this is {_text(fresh.report['sha256']):.20}..."
    found = {name: _reason(entry) for name, entry in fresh.report["settings"].items() if not entry.get("in_file")}
    return Reading(fresh, {**{name: reason for name, reason in found.items() if reason}, **taken})


def _places(conversion: Checkpoint, file: Opened, said: Said, arguments: dict[str, Any]) -> dict[str, str]:
    """Puts the conversion's places into the arguments where nobody says one, and the file alone would be read from others."""
    parts = file.parts if conversion.port is None else conversion.port.parts_of(file.parts)
    source, taken = conversion.source, {}
    deeper = without_first(parts)
    found = {
        "section": source.model_at != parts.model_at and places.written(source.model_at),
        "prefix": source.prefix not in (parts.prefix, deeper and deeper.prefix) and source.prefix,
        "optimizer_at": len(parts.optimizers) > 1 and bool(source.optimizer_at) and places.written(source.optimizer_at),
    }
    for name, place in found.items():
        if place and getattr(said, name) is None:
            arguments[name], taken[name] = place, f"taken from the conversion: give --{name.replace('_', '-')}"
    return taken


def _loaded(path: Path, conversion: Checkpoint, arguments: dict[str, Any], taken: dict[str, str]) -> Checkpoint:
    """The file converted again. Its architecture and the optimizer's class are the conversion's only where they are not recognised."""
    tries: list[tuple[dict[str, Any], dict[str, str]]] = [({}, {})]
    if arguments["arch"] is None and arguments["port"] is None:
        tries.append(({"arch": conversion.arch}, {"architecture": "not recognised, taken from the conversion: give --arch"}))
    if arguments[OPTIMIZER] is True and conversion.plans:
        classes = {plan.place: plan.table for plan in conversion.plans}
        named = ({OPTIMIZER: classes}, {OPTIMIZER: "its class is taken from the conversion: give --optimizer-class"})
        tries += [({**more, **named[0]}, {**why, **named[1]}) for more, why in tries]
    first: ConversionError | None = None
    for more, why in tries:
        try:
            fresh = load(path, **{**arguments, **more})
        except (Usage, Unmatched) as error:
            first = first or error
            continue
        taken.update(why)
        return fresh
    assert first is not None
    raise first


def _undetermined(checkpoint: Checkpoint) -> bool:
    """Whether the file's counters do not say how its scheduler goes on."""
    return any((plan.timing or {}).get("problem") for plan in checkpoint.plans)


def _reason(entry: Document) -> str:
    return {"config": "only the configuration says so", "option": "only an option says so", "default": "a default"}.get(entry["from"], "")


def _source(conversion: Checkpoint, setting: str) -> str | None:
    return conversion.report.get("settings", {}).get(setting, {}).get("from")


def _unpickled(conversion: Checkpoint) -> NamedManifolds:
    """The curved manifolds of a tree that the file itself does not say, by key."""
    named = leaves(conversion.manifolds)
    pickled = {key for key, tensor in split_again(conversion.source).tensors.items() if tensor.manifold is not None}
    paths = {e.key: str(e.path).removeprefix("params/") for e in conversion.entries if e.role == "parameter"}
    return {key: named[at] for key, at in paths.items() if key not in pickled and (callable(named[at]) or not named[at].flat)}


def _listed(conversion: Checkpoint) -> dict[str, list[list[str]]]:
    """The groups that an option gave, by the optimizer's place."""
    told = [plan for plan in conversion.plans if plan.source == "option groups"]
    return {plan.place: [[plan.keys[i] for i in listed] for listed in plan.listed] for plan in told}


def differences(conversion: Checkpoint, fresh: Checkpoint) -> list[Difference]:
    """Every fact of the conversion that a new reading says differently: settings, manifolds, keys, optimizer, epoch."""
    mine, other = facts(conversion), facts(fresh)
    return [
        Difference(what, mine.get(what, ABSENT), other.get(what, ABSENT))
        for what in [*mine, *(w for w in other if w not in mine)]
        if mine.get(what, ABSENT) != other.get(what, ABSENT)
    ]


def comparable(found: Sequence[Difference]) -> bool:
    """Whether two readings with these differences have variables of one structure, so that their numbers can be compared."""
    return not any(d.what == "architecture" or d.what.endswith(" becomes") for d in found)


def steps_comparable(found: Sequence[Difference]) -> bool:
    """Whether their optimizers have states of one structure, so that their steps can be compared."""
    return not any(d.what.endswith(("the optimizer's class", "the optimizer's axes", OPTIMIZERS)) for d in found)


def facts(conversion: Contents) -> dict[str, str]:
    """What `differences` compares, in words."""
    return dict(_facts(conversion))


def _facts(checkpoint: Contents) -> Iterator[tuple[str, str]]:
    yield "architecture", checkpoint.arch
    yield "epoch", str(checkpoint.epoch)
    for name, value in checkpoint.config.items():
        yield f"configuration, {name}", _text(value)
    for name, value in checkpoint.settings.items():
        yield name, _text(value)
    for entry in checkpoint.entries:
        yield f"{entry.key} becomes", f"{entry.path or entry.tied or 'a constant'}, {list(entry.shape)} {entry.dtype}, {entry.layout.name}"
    params = checkpoint.variables["params"]
    spaces = checkpoint.manifolds(params) if callable(checkpoint.manifolds) else checkpoint.manifolds
    for at, space in jax.tree.leaves_with_path(spaces, is_leaf=lambda node: isinstance(node, Manifold)):
        yield f"manifold {_place(at)}", _text(to_json(space))
    if len(checkpoint.plans) > 1:
        yield OPTIMIZERS, ", ".join(plan.place for plan in checkpoint.plans)
    for plan in checkpoint.plans:
        where = f"{plan.place}: " if len(checkpoint.plans) > 1 else ""
        yield from ((f"{where}{what}", value) for what, value in _of_plan(plan))
    for at, leaf in jax.tree.leaves_with_path(checkpoint.opt_state):
        yield f"the optimizer's state, {_place(at)}", _numbers(np.asarray(leaf))


def _of_plan(plan: Plan) -> Iterator[tuple[str, str]]:
    yield "the optimizer's class", plan.table
    yield "the optimizer's counts", ", ".join(plan.dialects)
    for number, (settings, indices) in enumerate(zip(plan.groups, plan.listed, strict=True)):
        for name, value in settings.items():
            yield f"group {number}, {name}", _text(value)
        yield f"group {number}, parameters", ", ".join(plan.keys.get(i, "no key") for i in indices)
    for number, paths in enumerate(plan.parts):
        yield f"group {number}, moved", ", ".join(paths)
    for name in ("extras", "still", "axes", "scheduler", "per_step", "ahead"):
        yield f"the optimizer's {name}", _text(getattr(plan, name))


def _place(at: tuple) -> str:
    return jax.tree_util.keystr(at, simple=True, separator="/")


def _numbers(array: np.ndarray) -> str:
    """A number as it is; an array by its type, shape and checksum."""
    return f"{array.dtype} {list(array.shape)}, CRC-32 {zlib.crc32(array.tobytes()):08x}" if array.ndim else _text(array)


def _text(value: object) -> str:
    """A value as text that is the same after a folder: JSON has no tuples, and floats in it are those of Python."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(item)}" for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _text(np.asarray(value).tolist())
    return repr(value)


__all__ = ["Difference", "Reading", "Said", "comparable", "differences", "facts", "read_anew", "steps_comparable"]
