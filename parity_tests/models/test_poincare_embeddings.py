"""Poincare and Lorentz embeddings and entailment cones: energies, Riemannian gradients, steps, and the names that a
file carries."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.models.conversion import check_parity, check_round_trip, check_steps, converted
from port_jax.models.poincare_embeddings import PoincareEmbeddings, aperture, cone_angle
from reference_torch.models import poincare_embeddings as reference
from weights.checkpoint import load
from weights.errors import ConversionError

SIZE, DIM = 20, 4
CONFIGS = [(m, e) for m in ("poincare", "lorentz") for e in ("distance", "entailment_cones")] + [("euclidean", "distance")]
RNG = draws.stream(5)
# Each node is met: geoopt stretches a point of the hyperboloid that stands still, by 5e-9 of its length in each step.
INPUTS = np.concatenate([RNG.permutation(SIZE).reshape(4, 5), np.stack([RNG.choice(SIZE, 5, replace=False) for _ in range(8)])])


def module_of(manifold: str, energy: str):
    """Points of length 0.3 to 0.8 in the ball, out of the inner radius of the cones."""
    draws.seed_torch(2)
    module = reference.PoincareEmbeddings(SIZE, DIM, manifold=manifold, energy=energy).double()
    ball = torch.nn.functional.normalize(torch.randn(SIZE, DIM, dtype=torch.float64), dim=-1)
    ball = ball * (0.3 + 0.5 * torch.rand(SIZE, 1, dtype=torch.float64))
    square = ball.pow(2).sum(-1, keepdim=True)
    module.lt.weight.data = torch.cat([1 + square, 2 * ball], -1) / (1 - square) if manifold == "lorentz" else ball
    return module


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


def theirs(module, dtype):
    return (module(torch.as_tensor(INPUTS)),)


def ours(model, variables, dtype):
    return (model.apply(variables, INPUTS),)


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
