"""Pictures of the disk: arcs lie on geodesics, thousands of edges are one collection, bad input is named."""

import matplotlib as mpl

mpl.use("Agg")

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection

from parity_tests import draws
from port_jax.manifolds import PoincareBall
from port_jax.plots import geodesic_arcs, plot_disk, plot_geodesics, plot_parallel_transport

RNG = draws.stream(59)
geodesic = jax.jit(PoincareBall.geodesic)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_arcs_are_geodesics():
    for c in (0.6, 3.0):
        x, y = RNG.uniform(-0.6, 0.6, (2, 20, 2)) / np.sqrt(c)
        y[0], x[1], y[2] = x[0], 0, -x[2]
        arcs = geodesic_arcs(x, y, c, 9)
        t = jnp.linspace(0, 1, 9)[:, None]
        expected = geodesic(PoincareBall(c), t, jnp.asarray(x)[:, None], jnp.asarray(y)[:, None])
        np.testing.assert_allclose(arcs, expected, atol=1e-12)
        # Circles that meet the boundary at right angles: |m|² = r² + 1/c.
        a, b, d = (arcs[5, i] for i in (0, 4, 8))
        m = np.linalg.solve(2 * np.array([b - a, d - a]), [b @ b - a @ a, d @ d - a @ a])
        np.testing.assert_allclose(m @ m, (a - m) @ (a - m) + 1 / c, rtol=1e-8)


def test_disk_with_many_edges():
    points = RNG.uniform(-0.65, 0.65, (2000, 2))
    edges = RNG.integers(0, 2000, (2, 5000))
    ax = plot_disk(points, edges, RNG.integers(0, 4, 2000))
    lines = [a for a in ax.collections if isinstance(a, LineCollection)]
    assert len(lines) == 1
    assert len(lines[0].get_segments()) == 5000
    assert plot_disk(points, ax=ax) is ax
    assert len(ax.patches) == 1
    ax.figure.canvas.draw()


def test_geodesics_and_transport():
    ax = plot_geodesics(np.zeros((1, 2)), np.full((1, 2), 0.3), c=0.8, colors="C0")
    ax = plot_parallel_transport([0.1, 0.2], [-0.5, 0.4], [0.2, 0.0], ax, c=0.8, count=5)
    arrows = ax.collections[-1]
    carried = np.stack([arrows.U, arrows.V], -1)
    ball = PoincareBall(0.8)
    lengths = ball.norm(jnp.asarray(arrows.get_offsets()), jnp.asarray(carried))
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-9)
    np.testing.assert_allclose(carried[0], [0.2, 0], atol=1e-12)


def test_bad_input():
    with pytest.raises(ValueError, match="point 1 has norm 2"):
        plot_disk(np.array([[0.0, 0], [2, 0]]))
    with pytest.raises(ValueError, match=r"points have shape \(3, 3\)"):
        plot_disk(np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"edges have shape \(5, 2\)"):
        plot_disk(np.zeros((3, 2)), np.zeros((5, 2), int))
