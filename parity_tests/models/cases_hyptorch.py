"""Random heads of hyperbolic image embeddings, and the outputs that are compared."""

import jax.numpy as jnp
import torch

from parity_tests import draws
from parity_tests.models.conversion import encoded_and_called
from reference_torch.models.hyptorch import HypTorch

DIM, CLASSES = 5, 4
X = 0.5 * draws.rng(6).normal(size=(12, DIM))
X[0] = 0
X[1] *= 9  # beyond the margin
CONFIGS = {"fixed": (False, False), "trained": (True, True), "trained point": (False, True)}


def module_of(name: str) -> HypTorch:
    draws.seed_torch(3)
    train_c, train_x = CONFIGS[name]
    module = HypTorch(DIM, CLASSES, 0.6, train_c=train_c, train_x=train_x).double()
    if module.tp.xp is not None:
        module.tp.xp.data = 0.3 * torch.randn(DIM, dtype=torch.float64)
    if train_c:
        module.tp.c.data = torch.tensor([0.75], dtype=torch.float64)
    return module


def theirs(module, dtype):
    x = torch.as_tensor(X).to(dtype)
    return module.encode(x), module(x)


def ours(model, variables, dtype):
    return encoded_and_called(model, variables, jnp.asarray(X, dtype))
