"""Random models of MuRP and MuRE, and the scores that are compared."""

import torch

from parity_tests import draws
from parity_tests.models.conversion import randomised
from reference_torch.models.murp import MuRP

ENTITIES, RELATIONS, DIM = 15, 4, 5
RNG = draws.stream(8)
TRIPLES = [RNG.integers(0, n, (6, 3)) for n in (ENTITIES, RELATIONS, ENTITIES)]


def module_of(kind: type) -> torch.nn.Module:
    draws.seed_torch(5)
    module = randomised(kind(ENTITIES, RELATIONS, DIM))
    if kind is MuRP:
        for table in (module.Eh, module.rvh):
            table.weight.data = 0.3 * torch.nn.functional.normalize(torch.randn_like(table.weight), dim=-1)
    return module


def theirs(module, dtype):
    return (module(*map(torch.as_tensor, TRIPLES)),)


def ours(model, variables, dtype):
    return (model.apply(variables, *TRIPLES),)
