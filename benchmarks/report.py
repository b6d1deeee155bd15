"""The results as tables for the terminal, as results.json, and as the tables and plots of docs/speed.md."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from benchmarks.tables import Row, cells, headline, kind_of, number

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results.json", HERE.parent / "docs" / "speed.md"
BEGIN, END = "<!-- speed: written by python -m benchmarks -->", "<!-- end of speed -->"
SUBJECTS = {
    "startup": ("From the start of the process", "Seconds from the start of Python to the end of the work, with imports and compilation. "
                "Cold is with an empty folder of compiled programs, warm with the programs of an earlier process "
                "(`port_jax.compilation_cache()`). The baseline is the same work in torch; the goals are its time cold and half of it warm "
                "unless the work has goals of its own. The exported program is a training step written by `jax.export`, which the process "
                "reads from a file. What is done twice in one process compiles nothing the second time."),
    "optim": ("Optimizer steps", "The baseline is one step of geoopt's `RiemannianAdam` on a whole table of points, or of its "
              "`SparseRiemannianAdam` on some of the rows."),
    "adam": ("What the manifold costs", "The baseline is a step of optax's Euclidean `adam` on the same table, compiled and donated as "
             "`RiemannianAdam` is. The last rows are the time of a step among the thousand that one call of `fit` makes, in its default "
             "chunks of 20."),
    "pairwise": ("Pairwise distances", "The baseline is geoopt's `PoincareBall.dist` on broadcast points, with the derivative."),
    "hgat": ("HGAT", "The baseline is a training step of `reference_torch.models.hgat.HGAT` with geoopt's `RiemannianAdam`. The floor is "
             "the time of copying the bytes of all gathers, sums and arrays of nodes, and of the matrix products (`floor` in "
             "`benchmarks/hgat.py`)."),
    "hgcn": ("HGCN", "The baseline is a training step of `reference_torch.models.hgcn.HGCN` with geoopt's `RiemannianAdam`. Its attention "
             "runs over the edges; the last row compares JAX with attention over all pairs of nodes, which is how the authors of HGCN "
             "compute it."),
    "architectures": ("Other models", "The baseline is a training step of the model of the same name in `reference_torch`, with geoopt's "
                      "`RiemannianAdam`, for AttH and RotH torch's `Adam`, and for MuRP geoopt's `RiemannianSGD`."),
    "poincare": ("Poincaré embeddings", "The baseline is the same epoch in torch, with geoopt's `SparseRiemannianSGD` on sparse gradients "
                 "or its `RiemannianSGD` on dense ones."),
    "peers": ("Other libraries", "The baseline is the other library, in an environment that the run makes: a training step of a Euclidean "
              "GAT with Adam in torch_geometric 2.8.1, with as many layers, heads and channels as the HGAT beside it and with freed memory "
              "kept; and the compiled step of hyperbolix 1.4.0's `riemannian_adam` with the retraction of geoopt's `PoincareBall`."),
    "weights": ("Conversion of checkpoints", "The baseline is `torch.load` followed by `torch.save` of the same file. The columns named "
                "after JAX show the conversion. The peaks of memory are those of whole processes with their libraries."),
    "growth": ("Cost as the work grows", "The baseline is the torch side of the same work with freed memory kept. The floor is the time of "
               "copying the bytes that have to be read and written, and of the matrix products."),
    "graphs": ("Graph operations", "The baseline is the same operation in torch, by `index_select`, `scatter_reduce` and `index_add`."),
    "meru": ("Images and texts", "The baseline is the same work in `reference_torch.models.meru`."),
    "helm": ("A decoder of text", "The baseline is the same work in `reference_torch.models.helm`, a training step with `AdamW` and "
             "geoopt's `RiemannianAdam`."),
    "hypformer": ("A transformer between nodes", "The baseline is a training step of `reference_torch.models.hypformer.Hypformer` with "
                  "geoopt's `RiemannianAdam`."),
    "tidhy": ("A model that optimises inside", "The baseline is the same work in `reference_torch.models.tidhy`, with loops of Python, "
              "from the same parameters. A training step with the stopping rule has rates of 0, so that all its calls are the same work. "
              "Rows from the start are seconds with imports and compilation, with an empty folder of compiled programs and with one of "
              "an earlier process; the goals of the trained model are torch's time and a fifth of it."),
    "images": ("Networks of images", "The baseline is a training step of the net of the same name in `reference_torch.models`, with the "
               "optimizer of the original: HypLL's `RiemannianAdam`, geoopt's `RiemannianSGD` with momentum for HyperbolicCV, and torch's "
               "`Adam` for Poincaré ResNet."),
}  # fmt: skip
"""Benchmark -> its heading in docs/speed.md, and the sentence that names its baseline."""
UNEVEN = 10
"""Quartiles of torch.compile this many times apart are shown beside the table."""
PACKAGES = ("jax", "flax", "optax", "torch", "geoopt", "numpy")


def tables(rows: list[Row]) -> list[Table]:
    """For the terminal: a table for each kind of rows."""
    found: dict[tuple[str, ...], Table] = {}
    for row in rows:
        columns = kind_of(row).columns
        found.setdefault(columns, Table(*columns)).add_row(*cells(row))
    return list(found.values())


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


def name_of(on: Row) -> str:
    """The name of a machine, under which its results are kept."""
    other = "" if on["device"] == "cpu" else f", {on['device']}"
    return f"{on['cpu']}, {on['cores']} cores, {on['threads']} threads{other}"


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
    """{"runs": {machine: {"machine": ..., "rows": [...]}}}."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}}


def merged(rows: list[Row], on: Row) -> Row:
    """The stored results, in which these rows replace those of the same benchmarks on the same machine."""
    results, name = load(), name_of(on)
    before = results["runs"].get(name, {"rows": []})
    measured = {row["benchmark"] for row in rows}
    kept = [row for row in before["rows"] if row["benchmark"] not in measured]
    order = list(SUBJECTS)
    results["runs"][name] = {"machine": on, "rows": sorted(rows + kept, key=lambda row: order.index(row["benchmark"]))}
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
    """The text of docs/speed.md between its marks: the machines side by side, then the tables of each."""
    runs = results["runs"]
    parts = side_by_side(runs) if len(runs) > 1 else [] if runs else ["No run of this version is recorded yet."]
    for name, run in runs.items():
        parts += [f"### {name}"] if len(runs) > 1 else []
        parts.append(described(run["machine"]))
        if run["machine"]["load"] > 1:
            parts.append(f"Other processes were using the machine: its load was {run['machine']['load']:.1f} at the start.")
        for benchmark in dict.fromkeys(row["benchmark"] for row in run["rows"]):
            parts += subject(benchmark, [row for row in run["rows"] if row["benchmark"] == benchmark], name)
    return "\n" + "\n\n".join(parts) + "\n"


def side_by_side(runs: Row) -> list[str]:
    """One table with the main figure of each row on each machine: how many times longer the fastest torch side or the other library
    takes, or the seconds from the start of the process."""
    found = {name: {row["work"]: headline(row) for row in run["rows"] if row["benchmark"] != "growth"} for name, run in runs.items()}
    works = [row["work"] for benchmark in SUBJECTS for run in runs.values() for row in run["rows"] if row["benchmark"] == benchmark]
    lines = [[work, *(found[name].get(work, "") for name in runs)] for work in dict.fromkeys(works)]
    told = ("How many times longer the other side takes than JAX (the fastest of the torch columns where there are several), for what the "
            "manifold costs how many times longer `RiemannianAdam` takes, and for what is waited for the seconds; goals in parentheses. "
            "The tables of each machine follow.")  # fmt: skip
    return ["### Machines side by side", told, markdown(["work", *runs], [line for line in lines if any(line[1:])])]


def subject(benchmark: str, rows: list[Row], machine_name: str) -> list[str]:
    """The paragraphs of one benchmark; a column that is empty in every row is left out."""
    title, baseline = SUBJECTS[benchmark]
    parts = [f"### {title}", f"Script: `python -m benchmarks {benchmark}`. {baseline}"]
    for columns in dict.fromkeys(kind_of(row).columns for row in rows):
        those = [cells(row) for row in rows if kind_of(row).columns == columns]
        lines = list(zip(*([name, *column] for name, *column in zip(columns, *those) if any(column))))
        parts.append(markdown(lines[0], lines[1:]))
    if benchmark == "growth":
        parts.append(f"![Milliseconds against the size of the work, on logarithmic axes]({plot_of(machine_name).name})")
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
    absent = [f"- {row['work']}: {row['not_measured']}" for row in rows if "not_measured" in row]
    if absent:
        parts.append("Not measured:\n\n" + "\n".join(absent))
    return parts


def plot_of(machine_name: str) -> Path:
    """The file of the plot of a machine."""
    return PAGE.with_name(f"growth-{re.sub('[^a-z0-9]+', '-', machine_name.lower()).strip('-')}.svg")


def draw(results: Row) -> list[Path]:
    """Draws the growth of each machine that has it: a picture for each series, with torch, JAX and the floor on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "hyperport"  # the same file for the same figures
    import matplotlib.pyplot as plt

    written = []
    for name, run in results["runs"].items():
        rows = [row for row in run["rows"] if row["benchmark"] == "growth" and "ratio" in row]
        if not rows:
            continue
        series = list(dict.fromkeys(row["series"] for row in rows))
        lines = (len(series) + 1) // 2
        fig, grid = plt.subplots(lines, 2, figsize=(9, 2.6 * lines), layout="constrained", squeeze=False)
        for ax, one in zip(grid.flat, series):
            those = [row for row in rows if row["series"] == one]
            sizes = [row["size"] for row in those]
            for key, label, style in (("theirs_ms", "torch, memory kept", "C0o-"), ("jax_ms", "JAX", "C3o-"), ("floor_ms", "floor", "k:")):
                ax.loglog(sizes, [row[key] for row in those], style, ms=4, label=label)
            ax.set_title(one, fontsize=9)
            ax.set(xlabel=those[0]["unit"], ylabel="ms")
        for ax in list(grid.flat)[len(series) :]:
            ax.axis("off")
        grid.flat[0].legend(fontsize=8)
        fig.savefig(plot_of(name), metadata={"Date": None})
        plt.close(fig)
        written.append(plot_of(name))
    return written
