"""Poincare and Lorentz embeddings and entailment cones: energies, Riemannian gradients, steps, and the names that a
file carries."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

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
