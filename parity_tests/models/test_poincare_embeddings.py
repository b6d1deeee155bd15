"""Poincare and Lorentz embeddings and entailment cones: energies, Riemannian gradients, steps, and the names that a
file carries."""

import geoopt
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.models.cases_poincare_embeddings import DIM, SIZE, module_of, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, check_steps, converted
from port_jax.models.poincare_embeddings import PoincareEmbeddings, aperture, cone_angle
from weights.checkpoint import load
from weights.errors import ConversionError

CONFIGS = [(m, e) for m in ("poincare", "lorentz") for e in ("distance", "entailment_cones")] + [("euclidean", "distance")]


def saved(manifold: str, energy: str):
    """The file as the original writes it: table twice, names, configuration."""
    conf = {"manifold": manifold, "model": energy, "dim": DIM, "margin": 0.1, "sparse": False}
    names = [f"node {i}" for i in range(SIZE)]
    return lambda state: {
        "conf": conf,
        "objects": names,
        "model": dict(state),
        "embeddings": state["lt.weight"],
        "epoch": 7,
    }


@pytest.mark.parametrize(("manifold", "energy"), CONFIGS)
def test_energies_and_gradients(manifold: str, energy: str, tmp_path):
    module = module_of(manifold, energy)
    ckpt = converted(module, None, tmp_path, wrap=saved(manifold, energy))
    assert (ckpt.arch, ckpt.epoch, ckpt.source.root["objects"][3]) == ("poincare_embeddings", 7, "node 3")
    check_parity(module, ckpt, theirs, ours, radius=0.99, single=(manifold, energy) == ("poincare", "distance"))
    check_round_trip(ckpt, tmp_path)


@pytest.mark.parametrize("manifold", ["poincare", "lorentz"])
def test_steps(manifold: str, tmp_path):
    module = module_of(manifold, "distance")
    optimizer = geoopt.optim.RiemannianSGD(module.parameters(), lr=0.02)
    check_steps(module, optimizer, {"manifold": manifold, "model": "distance"}, tmp_path, theirs, ours)


def test_the_manifold_is_not_guessed(tmp_path):
    torch.save(module_of("poincare", "distance").state_dict(), tmp_path / "model.pth")
    with pytest.raises(ConversionError, match="manifold"):
        load(tmp_path / "model.pth")


def test_gradients_are_finite_where_points_meet_and_at_the_origin():
    table = jnp.zeros((4, 2)).at[1:].set(jnp.array([[0.0, 0.0], [0.3, 0.1], [0.3, 0.1]]))
    for energy in ("distance", "entailment_cones"):
        model = PoincareEmbeddings(4, 2, energy=energy)
        inputs = np.array([[0, 1], [2, 3], [0, 2], [2, 0], [1, 1]])
        grad = jax.jit(jax.grad(lambda t, model=model, inputs=inputs: model.apply({"params": {"embedding": t}}, inputs).sum()))(table)
        assert np.isfinite(np.asarray(grad)).all(), energy


def test_angle_along_and_against_the_ray():
    """Kahan's form keeps small angles, which arccos of a cosine loses."""
    x, y = jnp.array([0.3, 0.0]), jnp.array([0.6, 1e-9])
    assert cone_angle(x, y) == pytest.approx(4.333333333e-9, rel=0.5)
    assert cone_angle(x, jnp.array([0.1, 0.0])) == pytest.approx(np.pi, abs=1e-12)
    assert aperture(jnp.array([0.01, 0.0])) == pytest.approx(np.arcsin(1 - 1e-5))


@pytest.mark.parametrize(("manifold", "energy"), [*CONFIGS, ("euclidean", "entailment_cones")])
def test_energies_against_closed_forms_at_50_digits(manifold: str, energy: str):
    """max(0, Xi - psi) of arXiv 1804.01882, section 4, with lengths of the triangle 0, x, y in place of coordinates.

    cosh d is 1 + 2 |x - y|^2 / ((1 - |x|^2)(1 - |y|^2)) on the ball and -<x, y>_L on the hyperboloid. Xi is pi less the angle at x, which
    the law of cosines gives, and sin psi is K (1 - |x|^2) / |x| = 2 K / sinh d(0, x). As the authors' code has it, K is replaced by the
    inner radius 2K / (1 + sqrt(1 + 4K^2)), K = 0.1; with s and o the first and another entry of a row, the cone's apex is o, and the
    angle is that at o on the hyperboloid, at s on the ball; and in flat space the code squares the squared distance.
    """
    rng, model = draws.rng(33), PoincareEmbeddings(8, 3, manifold=manifold, energy=energy)
    table = rng.normal(size=(8, 3))
    table *= rng.uniform(0.3, 0.8, (8, 1)) / np.linalg.norm(table, axis=-1, keepdims=True)
    if manifold == "lorentz":
        table = np.concatenate([np.sqrt(1 + (9 * table**2).sum(-1, keepdims=True)), 3 * table], -1)
    inputs = np.stack([rng.permutation(8)[:4] for _ in range(4)])
    have = jax.jit(model.apply)({"params": {"embedding": table}}, inputs)

    def cosh(x, y):
        if manifold == "lorentz":
            return mpmath.sqrt(1 + sum(x[1:] ** 2)) * mpmath.sqrt(1 + sum(y[1:] ** 2)) - sum(x[1:] * y[1:])
        return 1 + 2 * sum((x - y) ** 2) / ((1 - sum(x**2)) * (1 - sum(y**2)))

    def truth(s, o):
        if manifold == "euclidean":
            square, s2, o2 = sum((s - o) ** 2), sum(s**2), sum(o**2)
            if energy == "distance":
                return square
            cosine = (o2 - s2 - square**2) / (2 * mpmath.sqrt(s2) * square)
            return max(0, mpmath.acos(max(-1, min(1, cosine))) - mpmath.asin(radius / mpmath.sqrt(o2)))
        if energy == "distance":
            return mpmath.acosh(cosh(s, o))
        x, y = (o, s) if manifold == "lorentz" else (s, o)
        near, far, side = cosh(0 * x, x), cosh(0 * x, y), cosh(x, y)
        inner_angle = mpmath.acos((near * side - far) / mpmath.sqrt((near**2 - 1) * (side**2 - 1)))
        return max(0, mpmath.pi - inner_angle - mpmath.asin(2 * radius / mpmath.sqrt(cosh(0 * o, o) ** 2 - 1)))

    points = np.vectorize(mpmath.mpf, otypes=[object])(table)
    with mpmath.workdps(50):
        radius = mpmath.mpf(2) / 10 / (1 + mpmath.sqrt(1 + mpmath.mpf(4) / 100))
        want = np.array([[float(truth(points[row[0]], points[o])) for o in row[1:]] for row in inputs])
    assert (want > 0).sum() >= 6
    np.testing.assert_allclose(have, want, rtol=0, atol=1e-12)


def test_a_point_in_a_cone_has_no_energy():
    """arXiv 1804.01882: y on the ray from the apex x away from the origin is in its cone, and x is not in that of y."""
    apex, beyond = np.array([0.3, 0.2, -0.1]), np.array([0.6, 0.4, -0.2])
    lorentz = [np.concatenate([[1 + p @ p], 2 * p]) / (1 - p @ p) for p in (beyond, apex)]
    model = PoincareEmbeddings(2, 3, manifold="lorentz", energy="entailment_cones")
    energies = jax.jit(model.apply)({"params": {"embedding": np.stack(lorentz)}}, np.array([[0, 1], [1, 0]]))
    assert energies[0, 0] == 0
    assert energies[1, 0] > np.pi / 2
