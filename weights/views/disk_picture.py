"""A checkpoint's embeddings as a picture of the Poincare disk."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from port_jax.manifolds import PoincareBall
from port_jax.manifolds.isometries import hyperboloid_to_ball
from weights.errors import Usage, printable
from weights.files.outputs import new_file
from weights.views.embed import Embeddings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")
INCHES, DPI = 8.0, 150


class Disk(NamedTuple):
    """Points [N, 2] of the disk of sectional curvature -c, and how they came there."""

    points: np.ndarray
    c: float
    how: str


def disk(found: Embeddings) -> Disk:
    """The points on the disk of radius 1/sqrt(c), the hyperboloid's by the isometry between the models.

    Of more than two dimensions the two along which they spread most: with m the gyro-midpoint of the points,
    v = log_0((-m) (+) x), and E the first two principal directions of the v, the point exp_0(E v) of the disk. Distances
    to m along E are kept, others shrink. Usage for points that are not in hyperbolic space.
    """
    with jax.enable_x64(True):
        points, c, model = _on_ball(found)
        how = f"{found.origin} on the {model}, sectional curvature {-c:.4g}"
        dim = points.shape[1]
        if dim <= 2:
            return Disk(_inside(np.pad(points, ((0, 0), (0, 2 - dim))), c), c, how)
        flat, share = (np.asarray(value) for value in _principal(jnp.asarray(points), jnp.asarray(c)))
    how += f"; {dim} dimensions: two principal directions of the tangent space at the gyro-midpoint, {share:.0%} of the squares"
    return Disk(_inside(flat, c), c, how)


@jax.jit
def _principal(x: Float[Array, "n d"], c: Float[Array, ""]) -> tuple[Float[Array, "n 2"], Float[Array, ""]]:
    """exp_0(E log_0((-m) (+) x)), and the share of the squares of log_0 that E keeps."""
    ball = PoincareBall(c)
    middle = ball.weighted_midpoint(x, reducedim=[0])
    v = ball.logmap0(ball.mobius_add(-middle, x))
    squares, axes = jnp.linalg.eigh(v.T @ v)
    kept = squares[-2:].sum() / jnp.maximum(squares.sum(), jnp.finfo(x.dtype).tiny)
    return ball.expmap0(v @ axes[:, :-3:-1]), kept


def _inside(points: np.ndarray, c: float) -> np.ndarray:
    """Points that round to the boundary (farther than 19 from the origin) a billionth of the radius inside, which no picture shows."""
    norm = np.sqrt(c) * np.linalg.norm(points, axis=1, keepdims=True)
    return points * np.where(norm > 1 - 1e-9, (1 - 1e-9) / np.where(norm > 0, norm, 1), 1)


def plot(found: Embeddings, out: str | Path, *, names: int = 12, overwrite: bool = False) -> Disk:
    """Draws the disk to a .png, .svg or .pdf file: edges as geodesics, labels as colours, `names` names, a caption.

    Names go to points far from each other, the most central first; none are drawn if nodes have only numbers.

    Raises Usage for points that are not in hyperbolic space and for another suffix, NotWritten if the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from port_jax.plots import plot_disk

    out = Path(out)
    if out.suffix.lower() not in FORMATS:
        raise Usage(f"--out ends in {out.suffix or 'nothing'!r}", f"Give a file that ends in {', '.join(FORMATS)}")
    drawn = disk(found)
    figure = Figure(figsize=(INCHES, INCHES))
    axes = figure.add_axes((0.02, 0.05, 0.96, 0.93))
    size = float(np.clip(4000 / max(len(drawn.points), 1), 3, 30))
    one = {"color": "tab:blue", "cmap": None} if found.labels is None else {}
    plot_disk(drawn.points, found.edges, found.labels, axes, c=drawn.c, s=size, linewidths=0, **one)
    if found.edges is not None:
        axes.collections[0].set_alpha(float(np.clip(3000 / max(found.edges.shape[1], 1), 0.05, 1)))
    _name(axes, drawn, found, names)
    if found.labels is not None:
        legend(axes, found.labels, found.label_names)
    # Not by matplotlib's wrap=True, which takes dollar signs for mathematics whatever parse_math says.
    below = [line for text in (drawn.how, found.note) for line in textwrap.wrap(printable(text), 150)]
    figure.text(0.5, 0.015, "\n".join(below), ha="center", va="bottom", fontsize=7, parse_math=False)
    dates = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # so that the same points give the same file
    with new_file(out, overwrite) as temporary, rc_context({"svg.hashsalt": "hyperport", "svg.fonttype": "none"}):
        figure.savefig(temporary, format=out.suffix[1:].lower(), dpi=DPI, metadata=dates[out.suffix.lower()])
    return drawn


def legend(axes: Axes, labels: np.ndarray, names: Sequence[str] | None = None) -> None:
    """Adds a legend of the colours that `port_jax.plots.plot_disk` has just given to the points on `axes` by their labels [N].

    names: the classes by label; the labels themselves without. The colour map has ten colours: where there are more classes,
    several share a colour, and a line of the legend.
    """
    points = axes.collections[-1]
    shared: dict[tuple[float, ...], list[str]] = {}
    for label in np.unique(labels).tolist():
        colour = tuple(float(part) for part in points.cmap(points.norm(label)))
        shared.setdefault(colour, []).append(printable(label if names is None else names[label]))
    for colour, classes in shared.items():
        axes.scatter([], [], color=[colour], label=_classes(classes))
    for text in axes.legend(loc="upper right", fontsize=8, frameon=False, title="class").get_texts():
        text.set_parse_math(False)


def spread(points: np.ndarray, count: int) -> list[int]:
    """Indices of `count` points far from each other, from the most central on: each next one has the largest distance to those before."""
    if not len(points) or count < 1:
        return []
    chosen = [int(np.argmin((points**2).sum(1)))]
    far = ((points - points[chosen[0]]) ** 2).sum(1)
    while len(chosen) < min(count, len(points)) and far.max() > 0:
        chosen.append(int(np.argmax(far)))
        far = np.minimum(far, ((points - points[chosen[-1]]) ** 2).sum(1))
    return chosen


def _on_ball(found: Embeddings) -> tuple[np.ndarray, float, str]:
    """The points on the ball, c, and which model they come from."""
    points, manifold = found.points.astype(np.float64), found.manifold
    if manifold is not None and manifold.has("ball"):
        c = -float(np.asarray(manifold.curvature).reshape(()))
        if c > 0:
            if manifold.ambient:
                return np.asarray(hyperboloid_to_ball(jnp.asarray(points), c)), c, "hyperboloid"
            return points, c, "ball"
    where = "tangent vectors" if manifold is None else type(manifold).__name__
    raise Usage(f"the embeddings are {where}, not points of hyperbolic space", "Use hyperport embed to write their coordinates")


def _name(axes: Axes, drawn: Disk, found: Embeddings, count: int) -> None:
    if found.names_from == "numbers":
        return
    for i in spread(drawn.points, count):
        left = drawn.points[i, 0] * np.sqrt(drawn.c) > 0.5  # towards the middle, where there is room
        place = {"xytext": (-4 if left else 4, 4), "textcoords": "offset points", "ha": "right" if left else "left"}
        text = axes.annotate(printable(found.names[i]), drawn.points[i], fontsize=8, zorder=4, parse_math=False, **place)
        text.set_bbox({"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.8})


def _classes(classes: Sequence[str]) -> str:
    """The classes of one colour in a line of the legend: three at most, and how many more there are."""
    shown = list(classes[:3])
    if more := len(classes) - len(shown):
        shown.append(f"{more} more")
    return ", ".join(shown[:-1]) + (" and " if len(shown) > 1 else "") + shown[-1]


__all__ = ["Disk", "disk", "legend", "plot", "spread"]
