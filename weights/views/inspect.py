"""What a file contains and what it would become, as data and as tables."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from weights.checkpoint import Checkpoint, loaded
from weights.errors import ConversionError, Unmatched, Usage
from weights.files import sections
from weights.files.config import read_config
from weights.files.opening import Opened
from weights.files.reader import read
from weights.mapping import manifold_trees
from weights.mapping.port import TREE
from weights.mapping.recognition import recognised
from weights.models import ARCHITECTURES
from weights.types import Config, Document
from weights.views.terminal import Screen


def inspect(path: Path, **options: Any) -> Document:
    """The report of a conversion that is not carried out. For a file that does not fit, it has the keys, and the reason as "problem"."""
    file = read(path)
    choice = sections.Choice(options.get("section"), options.get("prefix"), options.get("optimizer_at"))
    try:
        parts = sections.split(file.root, choice)
    except ConversionError as error:
        raise error.at(path) from None
    config: Config | None = None
    try:
        config = read_config(options.get("config"), parts.config)
        rest = {name: value for name, value in options.items() if name not in ("config", "section", "prefix", "optimizer_at")}
        report = loaded(Opened(path, file.format, file.root, parts, config), **rest).report
    except (Unmatched, Usage) as error:
        report = {
            "file": path.name,
            "format": file.format,
            "arch": None if options.get("port") else _architecture(parts, config, options.get("arch")),
            "settings": {},
            "tensors": [
                {"key": k, "shape": list(t.shape), "dtype": t.dtype, "becomes": "?", "role": t.kind, "layout": ""}
                for k, t in parts.tensors.items()
            ],
            "prefix": parts.prefix,
            "carried": list(parts.extras),
            "count": len(parts.tensors),
            "problem": str(error),
        }
    for row, tensor in zip(report["tensors"], parts.tensors.values()):
        value = manifold_trees.curvature(tensor.manifold)
        if tensor.manifold is not None:
            row["manifold"] = str(getattr(tensor.manifold, "name", "")).rpartition(".")[2] + ("" if value is None else f"({value:.6g})")
    if parts.optimizers and not {"optimizer", "optimizers"} & report.keys():
        counted = {own.place: _counted(own.raw["param_groups"]) for own in parts.optimizers}
        report |= {"optimizers": counted} if len(counted) > 1 else {"optimizer": next(iter(counted.values()))}
    report["bytes"] = sum(t.nbytes for t in parts.tensors.values())
    return report


def _architecture(parts: sections.Sections, config: Config | None, name: str | None) -> str | None:
    """The name of the architecture whose keys these are, where a model cannot be made of them."""
    with contextlib.suppress(ConversionError):
        table, _ = recognised(ARCHITECTURES, name, parts, config or {})
        return table.name if table else TREE
    return None


def _counted(groups: list) -> Document:
    return {"groups": len(groups), "parameters": [len(g.get("params", ())) for g in groups if isinstance(g, dict)]}


def optimizers_of(report: Document) -> dict[str, Document]:
    """The reports of the optimizers, by words that name each."""
    one, several = report.get("optimizer"), report.get("optimizers") or {}
    return {"optimizer": one} if one else {f"optimizer {place}": entry for place, entry in several.items()}


def show(report: Document) -> None:
    """Prints the report as tables."""
    screen, rows = Screen(width=160), []
    for row in report["tensors"]:
        becomes = {"tied": "= {}", "constant": "(constant)"}.get(row["role"], "{}").format(row["becomes"])
        layout = row["layout"] if row["role"] in ("parameter", "buffer") and row["layout"] != "as it is" else ""
        rows.append((row["key"], "x".join(map(str, row["shape"])) or "one", row["dtype"], becomes, row.get("manifold", layout)))
    title = f"{report['file']} ({report['format']}, {report['count']} tensors, {report['bytes']} bytes)"
    screen.table(("key", "shape", "type", "becomes", "layout"), rows, title)
    if report["settings"]:
        told = [(name, entry["value"], entry["from"]) for name, entry in report["settings"].items()]
        screen.table(("setting", "value", "from"), told, f"architecture: {report['arch']}")
    else:
        screen.line(f"architecture: {report['arch'] or 'not known'}")
    for title, entry in optimizers_of(report).items():
        for name, value in entry.items():
            if value:
                screen.line(f"{title} {name.replace('_', ' ')}: {value}")
    for name in ("prefix", "carried", "note", "problem"):
        if report.get(name):
            screen.line(f"{name}: {report[name]}")


def show_run(found: Document) -> None:
    """Prints what a run of training has saved."""
    screen = Screen(width=160)
    title = f"{found['folder']} ({found['format']}, step {found['step']}, {found['count']} arrays, {found['bytes']} bytes)"
    rows = [(row["name"], "x".join(map(str, row["shape"])) or "one", row["dtype"]) for row in found["arrays"]]
    screen.table(("array", "shape", "type"), rows, title)
    screen.line(f"kept: {', '.join(f'step {step}' for step in found['kept'])}")
    screen.line(f"best: {'nothing was monitored' if found['best_step'] is None else 'step {}'.format(found['best_step'])}")
    for name, value in (found["record"] or {}).items():
        screen.line(f"  {name} = {value:.6g}")
    screen.line(f"optimizer: {found['opt_state']['arrays']} arrays, {found['opt_state']['bytes']} bytes")
    if "arch" in found:
        screen.line(f"architecture: {found['arch']}, which has these parameters")


def show_converted(checkpoint: Checkpoint, out: Path) -> None:
    """Prints in a few lines what was converted."""
    report = checkpoint.report
    roles = [row["role"] for row in report["tensors"]]
    screen = Screen()
    screen.line(
        f"{out}: {report['arch']}, {roles.count('parameter')} parameters, {roles.count('constant')} constants, "
        f"{roles.count('tied')} tied names" + f", {roles.count('buffer')} buffers" * ("buffer" in roles)
    )
    for name, entry in report["settings"].items():
        screen.line(f"  {name} = {entry['value']}  (from {entry['from']})")
    done = ", ".join(f"{what} ({place})" for what, place in report["converted"].items())
    screen.line(f"  converted: {done}")
    for place, why in report["not_converted"].items():
        screen.line(f"  not converted, and written again by export: {place} ({why})")
    for place, what in report.get("assumed", {}).items():
        screen.line(f"  assumed of {place}: {what}")
    if report.get("on_no_manifold"):
        screen.line(f"  on no manifold: {', '.join(report['on_no_manifold'])}")
    found = optimizers_of(report)
    if not found:
        where = "in JAX, as was asked" if any("as was asked" in why for why in report["not_converted"].values()) else "in this file"
        screen.line(f"  no optimizer state {where}")
    for title, entry in found.items():
        screen.line(f"  {title} {entry['name']}, indices by {entry['indices_by']}, counts: {', '.join(entry['counts'])}")
        if (timing := entry.get("scheduler")) and timing.get("updates_per_step_by"):
            screen.line(f"  updates per step of {timing['name']}: {timing['updates_per_step']}, by {timing['updates_per_step_by']}")
        if entry.get("carried"):
            screen.line(f"  read by no step of {entry['name']}, and written again by export: {', '.join(entry['carried'])}")
        if entry["without_state"]:
            screen.line(f"  no state, so no updates: {', '.join(entry['without_state'])}")
        for sentence in entry.get("defects", ()):
            screen.line(f"  as in geoopt: {sentence}")
    if "note" in report:
        screen.line(f"  {report['note']}")


__all__ = ["inspect", "show", "show_converted", "show_run"]
