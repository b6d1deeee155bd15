"""Pictures of checkpoints: points on the disk by isometries, of more dimensions by what they spread along."""

from __future__ import annotations

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import weights
from parity_tests import draws
from parity_tests.weights.helpers import run
from parity_tests.weights.views.nouns import NAMES, nouns
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, Stereographic
from port_jax.plots import plot_disk
from weights import Usage
from weights.views.disk_picture import disk, legend, plot, spread
from weights.views.embed import Embeddings

RNG = draws.stream(7)


def plane(c: float, n: int = 40) -> np.ndarray:
    """Points in general position of the disk of curvature -c."""
    angle, radius = RNG.uniform(0, 2 * np.pi, n), np.sqrt(RNG.uniform(0.01, 0.9, n)) / np.sqrt(c)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def found(points, manifold, **more) -> Embeddings:
    return Embeddings(np.asarray(points), tuple(f"n{i}" for i in range(len(points))), manifold, "names", "params/x", **more)


def distances(c: float, x: np.ndarray) -> np.ndarray:
    """Between all pairs: arcosh(1 + 2 c |x - y|^2 / ((1 - c |x|^2) (1 - c |y|^2))) / sqrt(c)."""
    inner = 1 - c * (x**2).sum(1)
    far = ((x[:, None] - x[None]) ** 2).sum(-1)
    return np.arccosh(1 + 2 * c * far / (inner[:, None] * inner)) / np.sqrt(c)


def hyperboloid(c: float, x: np.ndarray) -> np.ndarray:
    """The same points with x_0^2 - |x|^2 = 1 / c."""
    square = c * (x**2).sum(1, keepdims=True)
    return np.concatenate([(1 + square) / np.sqrt(c), 2 * x], 1) / (1 - square)


@pytest.mark.parametrize("c", [0.4, 2.5])
def test_two_dimensions_are_drawn_as_they_are(c):
    points = plane(c)
    assert np.array_equal(disk(found(points, PoincareBall(c))).points, points)
    assert np.array_equal(disk(found(points, Stereographic(-c))).points, points)
    on_hyperboloid = hyperboloid(c, points)
    drawn = disk(found(on_hyperboloid, Lorentz(1 / c)))
    np.testing.assert_allclose(drawn.points, points, rtol=1e-11, atol=1e-12)
    far = np.arccosh(c * (on_hyperboloid[0, 0] * on_hyperboloid[1:, 0] - on_hyperboloid[1:, 1:] @ on_hyperboloid[0, 1:])) / np.sqrt(c)
    np.testing.assert_allclose(distances(drawn.c, drawn.points)[0, 1:], far, rtol=1e-9)
    one = disk(found(points[:, :1], PoincareBall(c)))
    assert np.array_equal(one.points, np.pad(points[:, :1], ((0, 0), (0, 1))))


@pytest.mark.slow  # in two dimensions above
@pytest.mark.parametrize("model", ["ball", "hyperboloid"])
@pytest.mark.parametrize("c", [0.4, 2.5])
def test_a_plane_in_more_dimensions_keeps_its_distances(c, model):
    """A plane through the midpoint, turned and moved in five dimensions, is all that spreads: it is drawn isometrically."""
    ball, flat = PoincareBall(c), 0.7 * plane(c)
    flat = np.concatenate([flat, -flat])  # its midpoint is the origin
    turn = np.linalg.qr(RNG.standard_normal((5, 5)))[0]
    away = jnp.asarray(np.array([0.3, -0.2, 0.1, 0.25, -0.3]) / np.sqrt(c))
    points = np.asarray(ball.mobius_add(away, jnp.asarray(np.pad(flat, ((0, 0), (0, 3))) @ turn)))
    given = found(points, ball) if model == "ball" else found(hyperboloid(c, points), Lorentz(1 / c))
    drawn = disk(given)
    assert drawn.c == pytest.approx(c)
    assert "5 dimensions" in drawn.how
    assert "100%" in drawn.how
    np.testing.assert_allclose(distances(c, drawn.points), distances(c, points), rtol=1e-6, atol=1e-7)


def test_the_caption_says_how_much_is_seen():
    points = 0.2 * RNG.standard_normal((400, 2))
    points = np.concatenate([points, np.tile([[0.2], [-0.2]], (200, 1))], 1)
    how = disk(found(np.clip(points, -0.5, 0.5), PoincareBall(1.0))).how
    assert 55 < int(how.split("%")[0].split()[-1]) < 85
    assert "gyro-midpoint" in how


def test_points_that_round_to_the_boundary():
    far = np.array([[np.cosh(40.0), np.sinh(40.0), 0.0], [1.0, 0.0, 0.0]])
    drawn = disk(found(far, Lorentz(1.0))).points
    assert (np.linalg.norm(drawn, axis=1) < 1).all()
    assert drawn[0, 0] > 0.999999


@pytest.mark.parametrize("manifold", [Euclidean(), Stereographic(0.5), None])
def test_what_is_not_hyperbolic_is_not_drawn(manifold, tmp_path):
    with pytest.raises(Usage, match="not points of hyperbolic space"):
        plot(found(plane(1.0), manifold), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_files(tmp_path, form):
    points = plane(0.7, 12)
    colours = {"labels": np.arange(12) % 3, "label_names": ("red", "green", "blue")}
    given = found(points, PoincareBall(0.7), edges=np.array([[0, 1], [2, 3]]), **colours)
    pictures = []
    for name in ("a", "b"):
        plot(given, tmp_path / f"{name}.{form}", names=4)
        pictures.append((tmp_path / f"{name}.{form}").read_bytes())
    assert pictures[0].startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[form])
    assert pictures[0] == pictures[1]
    if form == "svg":
        text = pictures[0].decode()
        assert all(f">n{i}</text>" in text for i in spread(points, 4))
        assert sum(f">n{i}</text>" in text for i in range(12)) == 4
        assert all(f">{name}</text>" in text for name in ("red", "green", "blue"))
        assert "sectional curvature -0.7" in text


@pytest.mark.parametrize("count", [3, 10, 12, 70])
def test_the_legend_explains_every_colour(count):
    """Each class is in the line of its colour, or among those that the line counts; no class is in two lines."""
    from matplotlib.figure import Figure

    axes, labels = Figure().add_subplot(), np.arange(count)
    plot_disk(np.resize(plane(1.0), (count, 2)), labels=labels, ax=axes)
    dots = axes.collections[-1]
    legend(axes, labels, tuple(f"class {i}" for i in labels))
    box = axes.get_legend()
    lines = {text.get_text(): handle.get_facecolor()[0] for text, handle in zip(box.get_texts(), box.legend_handles, strict=True)}
    assert len(lines) == min(count, 10)
    total = 0
    for text, colour in lines.items():
        shown = [int(n) for n in re.findall(r"class (\d+)", text)]
        total += len(shown) + sum(int(n) for n in re.findall(r"and (\d+) more", text))
        assert all(np.allclose(dots.cmap(dots.norm(n)), colour) for n in shown)
    assert total == count


def test_without_labels_there_is_no_legend(tmp_path):
    plot(found(plane(0.7, 12), PoincareBall(0.7)), tmp_path / "x.svg")
    assert ">class</text>" not in (tmp_path / "x.svg").read_text()


def test_names_are_far_from_each_other():
    points = np.array([[0.1, 0], [0.12, 0], [0.9, 0], [0.89, 0.01], [-0.8, 0], [0, 0.7]])
    assert spread(points, 4) == [0, 4, 2, 5]
    assert spread(points[:2] * 0, 5) == [0]
    assert spread(points, 0) == []


def test_the_command(monkeypatch, capsys, tmp_path):
    nouns(tmp_path / "x.pth", "lorentz")
    weights.load(tmp_path / "x.pth").save(tmp_path / "out")
    for source in ("x.pth", "out"):
        code, out, err = run(monkeypatch, capsys, "plot", tmp_path / source, "--out", tmp_path / f"{source}.svg", "--json", "--label", 3)
        assert code == 0, err
        assert "3 dimensions" in json.loads(out)["drawn"]
    assert (tmp_path / "x.pth.svg").read_bytes() == (tmp_path / "out.svg").read_bytes()
    assert sum(f">{name}</text>" in (tmp_path / "out.svg").read_text() for name in NAMES) >= 2
    code, _, err = run(monkeypatch, capsys, "plot", tmp_path / "x.pth", "--out", tmp_path / "x.gif")
    assert (code, "end" in err) == (2, True)
    torch.save({"w": torch.randn(3, 2)}, tmp_path / "flat.pth")
    args = ("plot", tmp_path / "flat.pth", "--arch", "tree", "--key", "w", "--out", tmp_path / "y.png")
    assert run(monkeypatch, capsys, *args)[0] == 2
    assert not (tmp_path / "y.png").exists()
