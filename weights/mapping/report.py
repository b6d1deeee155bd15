"""The report of a conversion, as JSON: stored beside the arrays, shown by `inspect` and `convert`."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from weights.files.opening import Opened
from weights.files.sections import Sections
from weights.mapping.architecture import TREE, Architecture
from weights.mapping.entries import Entry
from weights.mapping.settings import Settings
from weights.types import Document


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


__all__ = ["reported"]
