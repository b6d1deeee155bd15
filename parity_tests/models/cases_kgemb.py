"""Random models of RotH, RefH and AttH with their configurations, and the scores that are compared."""

import numpy as np
import torch

from parity_tests import draws
from parity_tests.models.conversion import randomised
from reference_torch.models.kgemb import KGEmb

ENTITIES, RELATIONS, RANK = 15, 4, 6
RNG = draws.stream(7)
TRIPLES = np.stack([RNG.integers(0, n, 12) for n in (ENTITIES, RELATIONS, ENTITIES)], 1)
CONFIGS = {"RotH": ("none", True), "RefH": ("constant", True), "AttH": ("learn", True), "RotH, one c": ("learn", False)}


def case(name: str) -> tuple[KGEmb, dict]:
    draws.seed_torch(4)
    kind, (bias, multi) = name[:4], CONFIGS[name]
    module = randomised(KGEmb(kind, ENTITIES, RELATIONS, RANK, bias=bias, multi_c=multi, gamma=2.5), 0.25, 0.1, keep=("gamma",))
    return module, {"model": kind, "bias": bias, "multi_c": multi, "gamma": 2.5, "rank": RANK, "dtype": "double"}


def theirs(module, dtype):
    queries = torch.as_tensor(TRIPLES)
    return module(queries), module.score_tails(queries)


def ours(model, variables, dtype):
    return model.apply(variables, TRIPLES), model.apply(variables, TRIPLES, method="score_tails")
