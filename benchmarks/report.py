"""Results as a table for the terminal, as results.json, and as README's section Speed."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

HERE = Path(__file__).parent
RESULTS, README = HERE / "results.json", HERE.parent / "README.md"
BEGIN, END = "<!-- speed: written by python -m benchmarks -->", "<!-- end of speed -->"
COLUMNS = ("work", "torch ms", "torch, kept ms", "compiled ms", "JAX ms", "torch / JAX", "goal", "best / JAX", "x floor", "first call s",
           "peak MiB")  # fmt: skip
PACKAGES = ("jax", "flax", "optax", "torch", "geoopt", "numpy")

Row = dict[str, Any]


def table(rows: list[Row]) -> Table:
    """For the terminal."""
    shown = Table(*COLUMNS)
    for row in rows:
        shown.add_row(*cells(row))
    return shown


def cells(row: Row) -> list[str]:
    """A row's text: medians, the ratio with its spread, first calls and memory of torch / JAX."""
    compiled = "fails" if "compiled_error" in row else number(row, "compiled_ms")
    times = number(row, "torch_ms"), number(row, "kept_ms"), compiled, number(row, "jax_ms")
    ratios = ratio(row, "eager"), number(row, "goal"), ratio(row, "best")
    return [row["work"], *times, *ratios, number(row, "times_floor"), pair(row, "first_s"), pair(row, "peak_mib")]


def ratio(row: Row, what: str = "eager") -> str:
    """torch over JAX, with the quartiles of both put against each other: torch as it comes ("eager"), or its best side."""
    if f"{what}_ratio" not in row:
        return ""
    spread = f" ({row[f'{what}_low']:.1f} to {row[f'{what}_high']:.1f})" if f"{what}_low" in row else ""
    return f"{row[f'{what}_ratio']:.1f}{spread}"


def number(row: Row, key: str) -> str:
    """Three digits, or nothing."""
    x = row.get(key)
    return "" if x is None else f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def pair(row: Row, what: str) -> str:
    """torch / JAX."""
    both = [number(row, f"{side}_{what}") for side in ("torch", "jax")]
    return " / ".join(both if both[0] else both[1:]) if both[1] else ""


def machine(load: float, threads: int) -> Row:
    """What the figures belong to."""
    import jax

    return {
        "device": str(jax.devices()[0].device_kind),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "load": load,
    }


def cpu() -> str:
    """The processor's name."""
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def load() -> Row:
    """{"runs": {device: {"machine": ..., "rows": [...]}}}."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}}


def merged(rows: list[Row], on: Row) -> Row:
    """The results on disk with these rows in place of those of the same benchmarks on the same device."""
    results = load()
    before = results["runs"].get(on["device"], {"rows": []})
    measured = {row["benchmark"] for row in rows}
    kept = [row for row in before["rows"] if row["benchmark"] not in measured]
    results["runs"][on["device"]] = {"machine": on, "rows": rows + kept}
    return results


def save(results: Row) -> None:
    """Writes results.json."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def write_readme(text: str, begin: str = BEGIN, end: str = END) -> None:
    """Puts the text between its two marks."""
    head, rest = README.read_text().split(begin)
    README.write_text(head + begin + text + end + rest.split(end)[1])


def between(begin: str = BEGIN, end: str = END) -> str:
    """What stands there."""
    return README.read_text().split(begin)[1].split(end)[0]


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows))


def section(results: Row) -> str:
    """README's text between the marks: for each device the machine, the table, and where torch.compile failed."""
    parts = [] if results["runs"] else ["No run of this version is recorded yet."]
    for device, run in results["runs"].items():
        on = run["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in on["versions"].items())
        parts.append(f"{on['cpu']}, {on['cores']} cores, {on['threads']} threads each, device {device}; Python {on['python']}, {versions}.")
        parts.append(markdown(COLUMNS, (cells(row) for row in run["rows"])))
        if on["load"] > 1:
            parts.append(f"The machine was not quiet: load {on['load']:.1f} at the start.")
        alone = [f"- {row['work']}: torch would need {row['torch_needs']}" for row in run["rows"] if "torch_needs" in row]
        if alone:
            parts.append("JAX alone:\n\n" + "\n".join(alone))
        failed = [f"- {row['work']}: `{row['compiled_error']}`" for row in run["rows"] if "compiled_error" in row]
        if failed:
            parts.append("torch.compile failed on:\n\n" + "\n".join(failed))
    return "\n" + "\n\n".join(parts) + "\n"
