"""The record of a run: numbers of every step and every evaluation, as a table, a file or a picture."""

from __future__ import annotations

import csv
import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

__all__ = ["History"]


@dataclasses.dataclass
class History:
    """Columns of numbers. `steps[name][i]` belongs to step first + i + 1, `evaluations` holds {"step": ..., name: ...} in order."""

    steps: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    evaluations: list[dict[str, float]] = dataclasses.field(default_factory=list)
    first: int = 0
    """Steps that the state had made before the run: 0 unless it is the state of another run."""

    def record(self, columns: dict[str, np.ndarray]) -> None:
        """Append the numbers of some steps."""
        for name, values in columns.items():
            self.steps.setdefault(name, []).extend(float(v) for v in values)

    def rows(self) -> list[dict[str, float]]:
        """One row per evaluation, with the means of the numbers recorded since the previous one, named `train/...`."""
        rows, before = [], 0
        for found in self.evaluations:
            now = int(found["step"]) - self.first
            means = {f"train/{name}": float(np.mean(values[before:now])) for name, values in self.steps.items() if now > before}
            rows.append({"step": int(found["step"]), **means, **{k: v for k, v in found.items() if k != "step"}})
            before = now
        return rows

    def table(self) -> Any:
        """`rows` as a rich table: `rich.print(history.table())`."""
        from rich.table import Table

        rows, table = self.rows(), Table()
        names = list(dict.fromkeys(name for row in rows for name in row))
        for name in names:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*(f"{row[n]:.6g}" if n in row else "" for n in names))
        return table

    def save(self, path: str | Path) -> None:
        """`rows` as a .csv file, whole or not at all. Of several processes, the first one writes."""
        if jax.process_index():
            return
        rows, path = self.rows(), Path(path)
        names = list(dict.fromkeys(name for row in rows for name in row))
        part = path.with_name(f"{path.name}.part")
        with open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(part, path)

    def plot(self, path: str | Path | None = None) -> Any:
        """Losses above and evaluations below, over the steps. Saved if a path is given, by the first of several processes, otherwise
        returned as a figure."""
        import matplotlib.pyplot as plt

        names = [n for n in dict.fromkeys(k for row in self.evaluations for k in row) if n != "step"]
        fig, axes = plt.subplots(1 + bool(names), squeeze=False, sharex=True, figsize=(7, 3 + 2.5 * bool(names)), layout="constrained")
        for name, values in self.steps.items():
            axes[0, 0].plot(self.first + np.arange(1, len(values) + 1), values, label=name, lw=1)
        for name in names:
            points = [(row["step"], row[name]) for row in self.evaluations if name in row]
            axes[1, 0].plot(*zip(*points, strict=True), marker=".", label=name)
        for (ax,) in axes:
            ax.legend()
        axes[-1, 0].set_xlabel("step")
        if path is None:
            return fig
        if jax.process_index() == 0:
            fig.savefig(path, dpi=130)
        plt.close(fig)
        return None
