"""The report of a conversion, as JSON: stored beside the arrays, shown by `inspect` and `convert`."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from weights.files import places
from weights.files.opening import Opened
from weights.files.sections import Sections
from weights.mapping.architecture import TREE, Architecture
from weights.mapping.entries import Entry
from weights.mapping.settings import Settings
from weights.types import Document

NAMES = "objects"
"""The names of the rows, as poincare-embeddings saves them."""


def reported(file: Opened, table: Architecture | None, parts: Sections, settings: Settings, entries: Sequence[Entry]) -> Document:
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
    wide = [e.key for e in entries if e.dtype == "float64" and e.role == "parameter"]
    if wide and not jax.config.read("jax_enable_x64"):
        report["note"] = f"{len(wide)} float64 tensors stay numpy arrays; jax computes with them in float32 until jax_enable_x64 is set"
    return report


def accounted(parts: Sections, optimizer: Document | None, why: str) -> Document:
    """What became of each section of the file: `converted` has places by names, `not_converted` has reasons by places.

    optimizer: the report of the optimizer, None if it was not converted; `why` then says why not. What is not converted is written again
    by export, as it is.
    """
    done, left = {"model": places.written(parts.model_at) or "the file itself"}, {}
    if optimizer is not None:
        done["optimizer"] = places.written(parts.optimizer_at)
    left |= {places.written(path): why for path in parts.optimizers if optimizer is None or path != parts.optimizer_at}
    if parts.scheduler is not None:
        timing = (optimizer or {}).get("scheduler") or {}
        if timing.get("rates_follow"):
            done["scheduler"] = places.written(parts.scheduler_at)
        else:
            left[places.written(parts.scheduler_at)] = timing.get("problem") or "there is no optimizer for it"
    named = {place.partition(".")[0] for place in left}
    if NAMES in parts.extras:
        done["names"] = NAMES
    left |= dict.fromkeys((name for name in parts.extras if name not in named and name != NAMES), "JAX has no use for it")
    return {"converted": done, "not_converted": left}


__all__ = ["accounted", "reported"]
