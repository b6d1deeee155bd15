"""The results as a table for the terminal, as results.json, and as the tables of docs/speed.md."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results.json", HERE.parent / "docs" / "speed.md"
BEGIN, END = "<!-- speed: written by python -m benchmarks -->", "<!-- end of speed -->"
COLUMNS = ("work", "torch, ms", "torch, memory kept, ms", "torch.compile, ms", "JAX, ms", "torch / JAX", "goal", "best torch / JAX",
           "times the floor", "first call, torch / JAX, s", "peak memory, torch / JAX, MiB")  # fmt: skip
WAITED = ("work", "torch, s", "JAX, cold, s", "goal, cold", "JAX, warm, s", "goal, warm", "torch / JAX, cold", "torch / JAX, warm")
"""The columns of what is waited for from the start of a process."""
SUBJECTS = {
    "startup": ("From the start of the process", "Seconds from the start of Python to the end of the work, with imports and compilation. "
                "Cold is with an empty folder of compiled programs, warm with the programs of an earlier process "
                "(`port_jax.compilation_cache()`). The baseline is the same work in torch."),
    "optim": ("Optimizer steps", "The baseline is one step of geoopt's `RiemannianAdam` on a whole table of points, or of its "
              "`SparseRiemannianAdam` on some of the rows."),
    "pairwise": ("Pairwise distances", "The baseline is geoopt's `PoincareBall.dist` on broadcast points, with the derivative."),
    "hgat": ("HGAT", "The baseline is a training step of `reference_torch.models.hgat.HGAT` with geoopt's `RiemannianAdam`."),
    "hgcn": ("HGCN", "The baseline is a training step of `reference_torch.models.hgcn.HGCN` with geoopt's `RiemannianAdam`. Its attention "
             "runs over the edges; the last row compares JAX with attention over all pairs of nodes, which is how the authors of HGCN "
             "compute it."),
    "poincare": ("Poincaré embeddings", "The baseline is the same epoch in torch, with geoopt's `SparseRiemannianSGD` on sparse gradients "
                 "or its `RiemannianSGD` on dense ones."),
    "weights": ("Conversion of checkpoints", "The baseline is `torch.load` followed by `torch.save` of the same file. The columns named "
                "after JAX show the conversion; the name of a row has the size of the file and the peak memory of the conversion in MiB."),
    "graphs": ("Graph operations", "The baseline is the same operation in torch, by `index_select`, `scatter_reduce` and `index_add`."),
}  # fmt: skip
"""Benchmark -> its heading in docs/speed.md, and the sentence that names its baseline."""
UNEVEN = 10
"""Quartiles of torch.compile this many times apart are shown beside the table."""
PACKAGES = ("jax", "flax", "optax", "torch", "geoopt", "numpy")

Row = dict[str, Any]


def tables(rows: list[Row]) -> list[Table]:
    """For the terminal: what is waited for from the start of a process, then the steps."""
    found = []
    for columns in (WAITED, COLUMNS):
        shown = Table(*columns)
        for row in rows:
            if columns_of(row) == columns:
                shown.add_row(*cells(row))
        found += [shown] if shown.row_count else []
    return found


def columns_of(row: Row) -> tuple[str, ...]:
    """The columns of the table that a row belongs to."""
    return WAITED if row["benchmark"] == "startup" else COLUMNS


def cells(row: Row) -> list[str]:
    """The text of a row under its columns."""
    return _waited(row) if columns_of(row) == WAITED else _steps(row)


def _waited(row: Row) -> list[str]:
    """Seconds with their goals, and how many times longer torch takes."""
    text = [row["work"], number(row, "torch_s")]
    for side in ("cold", "warm"):
        late = row.get(f"{side}_goal_s", math.inf) < row[f"{side}_s"]
        text += [number(row, f"{side}_s"), number(row, f"{side}_goal_s") + (" (missed)" if late else "")]
    return text + [f"{row['torch_s'] / row[f'{side}_s']:.1f}" if "torch_s" in row else "" for side in ("cold", "warm")]


def _steps(row: Row) -> list[str]:
    """The text of a row: medians, ratios with their spread, first calls and peak memory as torch / JAX."""
    compiled = "fails" if "compiled_error" in row else number(row, "compiled_ms")
    times = number(row, "torch_ms"), number(row, "kept_ms"), compiled, number(row, "jax_ms")
    ratios = ratio(row, "eager"), goal(row), ratio(row, "best")
    return [row["work"], *times, *ratios, number(row, "times_floor"), pair(row, "first_s"), pair(row, "peak_mib")]


def ratio(row: Row, what: str = "eager") -> str:
    """The ratio torch / JAX and its range between opposite quartiles, for eager torch ("eager") or the fastest torch side ("best")."""
    if f"{what}_ratio" not in row:
        return ""
    spread = f" ({row[f'{what}_low']:.1f} to {row[f'{what}_high']:.1f})" if f"{what}_low" in row else ""
    return f"{row[f'{what}_ratio']:.{1 if row[f'{what}_ratio'] >= 1 else 2}f}{spread}"


def goal(row: Row) -> str:
    """The goal of the ratio of eager torch to JAX, marked if the row misses it."""
    return f"{number(row, 'goal')} (missed)" if missed(row) else number(row, "goal")


def missed(row: Row) -> bool:
    """Whether the row has a goal and a ratio below it."""
    return None not in (row.get("goal"), row.get("eager_ratio")) and row["eager_ratio"] < row["goal"]


def number(row: Row, key: str) -> str:
    """A value to three significant digits, or an empty text if the row lacks it."""
    x = row.get(key)
    return "" if x is None else f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def pair(row: Row, what: str) -> str:
    """The values of torch and JAX with a slash between them; JAX's alone if torch has none."""
    both = [number(row, f"{side}_{what}") for side in ("torch", "jax")]
    return " / ".join(both if both[0] else both[1:]) if both[1] else ""


def machine(load: float, threads: int) -> Row:
    """The machine and the versions with which the figures were measured."""
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


def described(on: Row) -> str:
    """What `machine` found, as a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in on["versions"].items())
    side = f"{on['threads']} threads for each side, device {on['device']}"
    return f"Machine: {on['cpu']}, {on['cores']} cores, {side}; Python {on['python']}, {versions}."


def cpu() -> str:
    """The name of the processor."""
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def load() -> Row:
    """{"runs": {device: {"machine": ..., "rows": [...]}}}."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}}


def merged(rows: list[Row], on: Row) -> Row:
    """The stored results, in which these rows replace those of the same benchmarks on the same device."""
    results = load()
    before = results["runs"].get(on["device"], {"rows": []})
    measured = {row["benchmark"] for row in rows}
    kept = [row for row in before["rows"] if row["benchmark"] not in measured]
    results["runs"][on["device"]] = {"machine": on, "rows": rows + kept}
    return results


def save(results: Row) -> None:
    """Writes results.json."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def write_page(text: str, begin: str = BEGIN, end: str = END) -> None:
    """Replaces the text between two marks of docs/speed.md."""
    head, rest = PAGE.read_text().split(begin)
    PAGE.write_text(head + begin + text + end + rest.split(end)[1])


def between(begin: str = BEGIN, end: str = END) -> str:
    """The text between two marks of docs/speed.md."""
    return PAGE.read_text().split(begin)[1].split(end)[0]


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows))


def section(results: Row) -> str:
    """The text of docs/speed.md between its marks: for each device the machine, then for each benchmark its command, baseline and table."""
    parts = [] if results["runs"] else ["No run of this version is recorded yet."]
    for run in results["runs"].values():
        parts.append(described(run["machine"]))
        if run["machine"]["load"] > 1:
            parts.append(f"Other processes were using the machine: its load was {run['machine']['load']:.1f} at the start.")
        for benchmark in dict.fromkeys(row["benchmark"] for row in run["rows"]):
            parts += subject(benchmark, [row for row in run["rows"] if row["benchmark"] == benchmark])
    return "\n" + "\n\n".join(parts) + "\n"


def subject(benchmark: str, rows: list[Row]) -> list[str]:
    """The paragraphs of one benchmark; a column that is empty in every row is left out."""
    title, baseline = SUBJECTS[benchmark]
    lines = list(zip(*([name, *column] for name, *column in zip(columns_of(rows[0]), *map(cells, rows)) if any(column))))
    parts = [f"### {title}", f"Script: `python -m benchmarks {benchmark}`. {baseline}", markdown(lines[0], lines[1:])]
    alone = [f"- {row['work']}: torch would need {row['torch_needs']}" for row in rows if "torch_needs" in row]
    if alone:
        parts.append("Measured in JAX alone, because torch does not fit into memory:\n\n" + "\n".join(alone))
    uneven = [
        f"- {row['work']}: {number(row, 'compiled_low_ms')} to {number(row, 'compiled_high_ms')} ms"
        for row in rows
        if row.get("compiled_low_ms") and row["compiled_high_ms"] > UNEVEN * row["compiled_low_ms"]
    ]
    if uneven:
        said = "Single calls under `torch.compile` take such different times here that the median says little. Quartiles of these times:"
        parts.append(f"{said}\n\n" + "\n".join(uneven))
    failed = [f"- {row['work']}: `{row['compiled_error']}`" for row in rows if "compiled_error" in row]
    if failed:
        parts.append("`torch.compile` failed on these rows:\n\n" + "\n".join(failed))
    return parts
