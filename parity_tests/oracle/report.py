"""The accuracy table as files, plots, and the summary in docs/accuracy.md."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from parity_tests.oracle.rows import Errors, Row

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"
BEGIN, END = "<!-- accuracy: written by make accuracy -->", "<!-- end of accuracy -->"


def write(folder: Path, rows: Sequence[Row]) -> None:
    """table.csv, with three digits."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "table.csv", "w", newline="") as file:
        names = list(asdict(rows[0]))
        csv.writer(file, lineterminator="\n").writerows(
            [names, *([f"{v:.3g}" if isinstance(v, float) else v for v in asdict(row).values()] for row in rows)]
        )


def read(path: Path) -> list[Row]:
    """The rows of table.csv."""
    convert = {"int": int, "float": float, "str": str}
    with open(path, newline="") as file:
        return [Row(**{f.name: convert[str(f.type)](line[f.name]) for f in fields(Row)}) for line in csv.DictReader(file)]


def summary(rows: Sequence[Row]) -> str:
    """One line for the values and one for the gradients of each space and dtype."""
    lines = [
        "| space | of | dtype | rows | geoopt p50, p99, max | not finite | port_jax p50, p99, max | not finite "
        "| beyond conditioning | above |",
        "|" + " --- |" * 10,
    ]
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.space, "values" if row.of == "value" else "gradients", row.dtype), []).append(row)
    for (space, of, dtype), group in groups.items():
        sides = []
        for side in ("geoopt", "port_jax"):
            columns = np.array([[getattr(r, f"{side}_{at}") for at in ("p50", "p99", "max", "not_finite")] for r in group])
            p50, p99 = np.median(columns[:, :2], 0)
            top, bad = columns[:, 2].max(), int(columns[:, 3].sum())
            sides.append(f"{p50:.2g}, {p99:.2g}, {top:.2g} | {bad}")
        above = sum(len(r.above()) for r in group)
        worst = max(r.port_jax_conditioned for r in group)
        lines.append(f"| {space} | {of} | {dtype} | {len(group)} | {' | '.join(sides)} | {worst:.2g} | {above} of {3 * len(group)} |")
    return "\n".join(lines)


def on_page() -> str:
    """The summary that docs/accuracy.md has between its markers."""
    return PAGE.read_text().split(BEGIN)[1].split(END)[0].strip()


def onto_page(rows: Sequence[Row]) -> None:
    """The summary between its markers in docs/accuracy.md."""
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{summary(rows)}\n\n{END}{after}")


def plot(path: Path, found: Sequence[Errors]) -> None:
    """Sorted errors of each operation, geoopt beside port_jax; dashed in float64."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    names = list(dict.fromkeys(e.row.operation for e in found))
    columns = 6
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(13, 1.7 * rows), squeeze=False, sharex=True)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names):
        for e in (e for e in found if e.row.operation == name):
            line = "-" if e.row.dtype == "float32" else "--"
            for color, side in (("C1", "geoopt"), ("C0", "port_jax")):
                errors = np.clip(np.sort(getattr(e, side)), 1e-2, 1e18)
                axis.semilogy(np.linspace(0, 1, len(errors)), errors, color + line, lw=1, label=f"{side} {e.row.dtype}")
        axis.set_title(name, fontsize=8)
        axis.tick_params(labelsize=6)
    axes.flat[0].legend(fontsize=5)
    figure.supylabel("relative error / eps", fontsize=8)
    figure.supxlabel("share of the cases", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)
    Image.open(path).convert("RGB").quantize(16).save(path, optimize=True)
