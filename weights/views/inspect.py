"""What a file contains and what it would become, as data and as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from weights.checkpoint import Checkpoint, load
from weights.errors import Unmatched, Usage
from weights.files import sections
from weights.files.reader import read
from weights.mapping import manifold_trees
from weights.types import Document


def inspect(path: Path, **options: Any) -> Document:
    """The report of a conversion that is not carried out. For a file that does not fit, it has the keys, and the reason as "problem"."""
    file = read(path)
    parts = sections.split(file.root)
    try:
        report = load(path, **options).report
    except (Unmatched, Usage) as error:
        report = {
            "file": path.name,
            "format": file.format,
            "arch": None,
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
    if parts.optimizer is not None and "optimizer" not in report:
        groups = parts.optimizer["param_groups"]
        report["optimizer"] = {
            "groups": len(groups),
            "parameters": [len(g.get("params", ())) for g in groups if isinstance(g, dict)],
        }
    report["bytes"] = sum(t.nbytes for t in parts.tensors.values())
    return report


def show(report: Document) -> None:
    """Prints the report as tables."""
    console = Console(width=None if Console().is_terminal else 160)
    table = Table(
        title=f"{report['file']} ({report['format']}, {report['count']} tensors, {report['bytes']} bytes)",
        title_justify="left",
    )
    for name in ("key", "shape", "type", "becomes", "layout"):
        table.add_column(name, overflow="fold")
    for row in report["tensors"]:
        becomes = {"tied": "= {}", "constant": "(constant)"}.get(row["role"], "{}").format(row["becomes"])
        layout = row["layout"] if row["role"] == "parameter" and row["layout"] != "as it is" else ""
        table.add_row(row["key"], "x".join(map(str, row["shape"])) or "one", row["dtype"], becomes, row.get("manifold", layout))
    console.print(table)
    if report["settings"]:
        settings = Table(title=f"architecture: {report['arch']}", title_justify="left")
        for name in ("setting", "value", "from"):
            settings.add_column(name, overflow="fold")
        for name, entry in report["settings"].items():
            settings.add_row(name, str(entry["value"]), entry["from"])
        console.print(settings)
    else:
        console.print(f"architecture: {report['arch'] or 'not known'}")
    for name, value in (report.get("optimizer") or {}).items():
        if value:
            console.print(f"optimizer {name.replace('_', ' ')}: {value}", highlight=False)
    for name in ("prefix", "carried", "note", "problem"):
        if report.get(name):
            console.print(f"{name}: {report[name]}", highlight=False, markup=False)


def show_converted(checkpoint: Checkpoint, out: Path) -> None:
    """Prints in a few lines what was converted."""
    report = checkpoint.report
    roles = [row["role"] for row in report["tensors"]]
    console = Console()
    console.print(
        f"{out}: {report['arch']}, {roles.count('parameter')} parameters, {roles.count('constant')} constants, "
        f"{roles.count('tied')} tied names",
        highlight=False,
    )
    for name, entry in report["settings"].items():
        console.print(f"  {name} = {entry['value']}  (from {entry['from']})", highlight=False, markup=False)
    done = ", ".join(f"{what} ({place})" for what, place in report["converted"].items())
    console.print(f"  converted: {done}", highlight=False, markup=False)
    for place, why in report["not_converted"].items():
        console.print(f"  not converted, and written again by export: {place} ({why})", highlight=False, markup=False)
    if "optimizer" not in report:
        where = "in JAX, as was asked" if any("as was asked" in why for why in report["not_converted"].values()) else "in this file"
        console.print(f"  no optimizer state {where}", highlight=False)
    if "optimizer" in report:
        entry = report["optimizer"]
        console.print(
            f"  optimizer {entry['name']}, indices by {entry['indices_by']}, counts: {', '.join(entry['counts'])}",
            highlight=False,
        )
        if entry["without_state"]:
            console.print(f"  no state, so no updates: {', '.join(entry['without_state'])}", highlight=False)
        for sentence in entry.get("defects", ()):
            console.print(f"  as in geoopt: {sentence}", highlight=False, markup=False)
    if "note" in report:
        console.print(f"  {report['note']}", highlight=False)


__all__ = ["inspect", "show", "show_converted"]
