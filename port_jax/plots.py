"""Pictures of the Poincaré disk: geodesics as circular arcs, graphs with thousands of edges, parallel transport."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle

from port_jax.manifolds import PoincareBall

__all__ = ["geodesic_arcs", "plot_disk", "plot_geodesics", "plot_parallel_transport"]


def geodesic_arcs(x: Any, y: Any, c: float = 1.0, steps: int = 32) -> np.ndarray:
    """Points of the arcs from x to y, `[n, 2]` each, as `[n, steps, 2]`.

    The geodesic is an arc of the circle that meets the boundary at right angles, or a piece of a diameter. It is computed as a
    straight segment from the origin moved back to x: x ⊕ s z with z = ⊖x ⊕ y, at steps of equal hyperbolic length.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    # In complex numbers a translation of the disk is one fraction; √c scales the disk to radius 1.
    a, b = (np.sqrt(c) * (p[:, 0] + 1j * p[:, 1]) for p in (x, y))
    z = (b - a) / (1 - np.conj(a) * b)
    length = np.arctanh(np.minimum(np.abs(z), 1 - 1e-15))
    direction = z / np.where(z == 0, 1, np.abs(z))
    step = np.tanh(np.linspace(0, 1, steps) * length[:, None]) * direction[:, None]
    arc = (a[:, None] + step) / (1 + np.conj(a)[:, None] * step) / np.sqrt(c)
    return np.stack([arc.real, arc.imag], -1)


def plot_disk(
    points: Any,
    edges: Any = None,
    labels: Any = None,
    ax: Axes | None = None,
    *,
    c: float = 1.0,
    steps: int = 32,
    **scatter: Any,
) -> Axes:
    """Points `[n, 2]` of the disk of curvature -c, colored by `labels` `[n]`, with `edges` (`[2, E]` indices) as geodesics.

    All edges are one LineCollection. `scatter` is passed to `Axes.scatter`. Raises ValueError for points outside the disk.
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"plot_disk: points have shape {points.shape}; the disk needs [n, 2]")
    norms = np.sqrt(c) * np.linalg.norm(points, axis=1)
    if not (norms < 1).all():
        i = int(np.argmax(~(norms < 1)))
        raise ValueError(f"plot_disk: point {i} has norm {norms[i] / np.sqrt(c):.6g}; the disk's radius is {1 / np.sqrt(c):.6g}")
    ax = _disk(ax, c)
    if edges is not None:
        ends = np.asarray(edges)
        if ends.ndim != 2 or ends.shape[0] != 2:
            raise ValueError(f"plot_disk: edges have shape {ends.shape}; [2, E] indices of points are needed")
        arcs = geodesic_arcs(points[ends[0]], points[ends[1]], c, steps)
        ax.add_collection(LineCollection(list(arcs), colors="0.6", linewidths=0.4, zorder=1))
    ax.scatter(points[:, 0], points[:, 1], **({"c": labels, "s": 8, "cmap": "tab10", "zorder": 2} | scatter))
    return ax


def plot_geodesics(x: Any, y: Any, ax: Axes | None = None, *, c: float = 1.0, **line: Any) -> Axes:
    """Geodesics from each x `[n, 2]` to each y `[n, 2]`; `line` is passed to LineCollection."""
    ax = _disk(ax, c)
    ax.add_collection(LineCollection(list(geodesic_arcs(x, y, c, 64)), **line))
    return ax


def plot_parallel_transport(x: Any, y: Any, v: Any, ax: Axes | None = None, *, c: float = 1.0, count: int = 8) -> Axes:
    """The vector v at x (all `[2]`) transported along the geodesic to y, drawn at `count` points with its length in the ball's metric."""
    ball = PoincareBall(c)
    ax = plot_geodesics(np.asarray(x)[None], np.asarray(y)[None], ax, c=c)
    path = jnp.asarray(geodesic_arcs(np.asarray(x)[None], np.asarray(y)[None], c, count)[0])
    carried = np.asarray(ball.transp(jnp.asarray(x, path.dtype), path, jnp.asarray(v, path.dtype)))
    ax.quiver(*np.asarray(path).T, *carried.T, angles="xy", scale_units="xy", scale=1, width=0.004, color="C1")
    return ax


def _disk(ax: Axes | None, c: float) -> Axes:
    """Axes with the disk's boundary: new ones if none are given; a boundary that is drawn already is not drawn again."""
    ax = plt.subplots(figsize=(6, 6))[1] if ax is None else ax
    radius = 1 / np.sqrt(c)
    if not any(isinstance(patch, Circle) for patch in ax.patches):
        ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor="0.2", linewidth=1))
        ax.set(xlim=(-1.03 * radius, 1.03 * radius), ylim=(-1.03 * radius, 1.03 * radius), aspect="equal")
        ax.set_axis_off()
    return ax
