"""The report of a conversion, as JSON: stored beside the arrays, shown by `inspect` and `convert`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax

from weights.files import places
from weights.files.live_objects import Packed
from weights.files.opening import Opened
from weights.files.sections import Sections
from weights.mapping.entries import Entry
from weights.mapping.port import TREE, Port
from weights.mapping.settings import Settings
from weights.types import Document

NAMES = "objects"
"""The names of the rows, as poincare-embeddings saves them."""
NO_OPTIMIZER = "there is no optimizer for it"
APART = "it moves no parameter of the model"
BESIDE = "it is neither the state of a parameter nor a setting of a group"
NO_USE = "JAX has no use for it"
UNASSIGNED = "its rates are those of none of the optimizers, or of several, and so the learning rates stay as they are in the groups"


def reported(file: Opened, table: Port | None, parts: Sections, settings: Settings, entries: Sequence[Entry]) -> Document:
    """What each tensor and setting became. The optimizer's part is added by `weights.checkpoint`."""
    report: Document = {
        "file": file.path.name,
        "format": file.format,
        "arch": table.name if table else TREE,
        "settings": settings.reported(),
        "tensors": [
            {"key": e.key, "shape": list(e.shape), "dtype": e.dtype, "becomes": e.path or e.tied or "constant",
             "role": e.role, "layout": e.layout.name}
            for e in entries
        ],
        "prefix": parts.prefix,
        "carried": list(parts.extras),
        "count": len(parts.tensors),
    }  # fmt: skip
    wide = [e.key for e in entries if e.dtype == "float64" and e.path]
    notes = []
    if wide and not jax.config.read("jax_enable_x64"):
        notes.append(f"{len(wide)} float64 tensors stay numpy arrays; jax computes with them in float32 until jax_enable_x64 is set")
    sections = [section for own in parts.optimizers for section in ((own.at, own.raw), (own.scheduler_at, own.scheduler))]
    if packed := [places.written(at) for at, state in sections if isinstance(state, Packed)]:
        notes.append(f"{', '.join(packed)} was pickled as an object: export writes its state_dict")
    if notes:
        report["note"] = "; ".join(notes)
    return report


def accounted(parts: Sections, optimizers: Mapping[str, Document], why: str, begins: Mapping[str, str]) -> Document:
    """What became of each section of the file: `converted` has places by names, `not_converted` has reasons by places; and `assumed`, by
    places what the file leaves open and how it was taken, if there is something.

    optimizers: by their places, the reports of the optimizers that were converted; `why` says why the others were not. begins: by places,
    what is said of that which a run begins with all the same (`Port.begins`). What is not converted is written again by export, as it is.
    """
    converted: dict[str, list[str]] = {"model": [places.written(parts.model_at) or "the file itself"]}
    assumed: dict[str, str] = {}
    left = {places.written(path): why for path in parts.others} | {places.written(path): APART for path in parts.apart}
    for own in parts.optimizers:
        if own.place not in optimizers:
            left[own.place] = why
        else:
            converted.setdefault("optimizer", []).append(own.place)
            left |= {places.written((*own.at, name)): BESIDE for name in own.raw if name not in ("state", "param_groups")}
        mine = optimizers.get(own.place, {})
        timing = mine.get("scheduler") or {}
        assumed |= {own.place: mine["assumed"]} if mine.get("assumed") else {}
        assumed |= {places.written(own.scheduler_at): timing["assumed"]} if timing.get("assumed") else {}
        if timing.get("rates_follow"):
            converted.setdefault("scheduler", []).append(places.written(own.scheduler_at))
        elif own.scheduler is not None:
            left[places.written(own.scheduler_at)] = timing.get("problem") or NO_OPTIMIZER
    left |= {places.written(path): UNASSIGNED if len(parts.optimizers) > 1 else NO_OPTIMIZER for path in parts.schedulers}
    if NAMES in parts.extras:
        converted["names"] = [NAMES]
    left |= {place: _unused(place, begins) for place in parts.extras if place not in left and place != NAMES}
    report = {"converted": {what: ", ".join(where) for what, where in converted.items()}, "not_converted": left}
    return {**report, "assumed": assumed} if assumed else report


def _unused(place: str, begins: Mapping[str, str]) -> str:
    """What is said of a part that nothing was converted of: what a run begins with may be it, or inside of it."""
    return next((said for at, said in begins.items() if f"{at}.".startswith(f"{place}.")), NO_USE)


__all__ = ["NO_USE", "accounted", "reported"]
