"""Random Poincare and Lorentz embeddings, and the energies that are compared."""

import numpy as np
import torch

from parity_tests import draws
from reference_torch.models import poincare_embeddings as reference

SIZE, DIM = 20, 4
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


def theirs(module, dtype):
    return (module(torch.as_tensor(INPUTS)),)


def ours(model, variables, dtype):
    return (model.apply(variables, INPUTS),)
