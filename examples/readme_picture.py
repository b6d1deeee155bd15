"""Draws docs/demo.png, the picture in README.md, from the results of `make demo`.

    make demo
    python -m examples.readme_picture              # reads out/, writes docs/demo.png

On the left are the losses before and after the conversion, on the right the node embeddings that the converted HGAT computes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

import weights
from port_jax.data import load_graph
from port_jax.plots import plot_disk
from weights.views.disk_picture import disk

HOME = Path(__file__).parents[1]
COLORS = 64
"""Colours of the picture's palette, which keeps the file small."""


def draw_losses(axes: Axes, losses: dict[str, list[float]]) -> None:
    """The losses of torch before the conversion, and of torch and JAX after it."""
    before, theirs, ours = (losses[name] for name in ("torch before", "torch after", "JAX after"))
    after = np.arange(len(before), len(before) + len(theirs))
    axes.plot(np.arange(len(before)), before, color="0.5", label="torch, before the conversion")
    axes.plot(after, theirs, color="C0", lw=5, alpha=0.4, label="torch, continued")
    axes.plot(after, ours, color="C3", lw=1.2, label="JAX, continued from the converted checkpoint")
    axes.axvline(len(before), color="0.8", lw=0.8)
    axes.set(xlabel="step", ylabel="loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def draw_disk(axes: Axes, folder: Path) -> None:
    """The embeddings of the converted model, coloured by the part of the standard library that the classes belong to."""
    data = load_graph(None)
    assert data.labels is not None
    assert data.label_names is not None
    found = weights.embeddings(weights.restore(folder / "converted"), graph=folder / "graph.npz")
    drawn = disk(found)
    plot_disk(drawn.points, data.edges, data.labels, axes, c=drawn.c, s=6, linewidths=0)
    axes.collections[0].set_alpha(0.3)
    points: Any = axes.collections[-1]
    colors = [points.cmap(points.norm(label)) for label in range(len(data.label_names))]
    dots = [Line2D([], [], marker="o", ls="", ms=4, color=color, label=name) for color, name in zip(colors, data.label_names)]
    axes.legend(handles=dots, frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(0.95, 0.95))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--results", type=Path, default=HOME / "out", help="folder that make demo has written (default: out)")
    parser.add_argument("--out", type=Path, default=HOME / "docs" / "demo.png", help="picture to write (default: docs/demo.png)")
    args = parser.parse_args()
    report = json.loads((args.results / "report.json").read_text())
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    draw_losses(left, report["losses"])
    draw_disk(right, args.results)
    figure.savefig(args.out, dpi=90)
    Image.open(args.out).convert("RGB").quantize(COLORS).save(args.out, optimize=True)
    print(f"Wrote {args.out}.")


if __name__ == "__main__":
    main()
