"""A random HyboNet for knowledge graphs, and the scores that are compared."""

import torch

from parity_tests import draws
from parity_tests.models.conversion import randomised
from reference_torch.models.hybonet_kg import HyboNetKG

ENTITIES, RELATIONS, DIM = 15, 4, 6
CONFIG = {"margin": 6.0, "max_norm": 2.0}
RNG = draws.stream(9)
HEADS, RELATED, TAILS = RNG.integers(0, ENTITIES, 6), RNG.integers(0, RELATIONS, 6), RNG.integers(0, ENTITIES, (6, 3))


def module_of(time_bias: bool = True) -> HyboNetKG:
    draws.seed_torch(6)
    module = randomised(HyboNetKG(ENTITIES, RELATIONS, DIM, max_scale=2.5, margin=6.0, time_bias=time_bias), keep=("scale", "manifold.k"))
    if not time_bias:
        module.relation_bias.data[:, 0] = 0
    point = 0.8 * torch.randn(ENTITIES, DIM - 1, dtype=torch.float64)
    module.emb_entity.data = torch.cat([(1 + point.pow(2).sum(-1, keepdim=True)).sqrt(), point], -1)
    return module


def theirs(module, dtype):
    return (module(*map(torch.as_tensor, (HEADS, RELATED, TAILS))),)


def ours(model, variables, dtype):
    return (model.apply(variables, HEADS, RELATED, TAILS),)
