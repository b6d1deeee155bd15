"""Configurations of HTGN, random models of them, and the outputs that are compared."""

import jax.numpy as jnp
import torch

from parity_tests import draws
from parity_tests.models.conversion import (
    NODES,
    graphs,
    randomised,
)
from reference_torch.models.htgn import HTGN

CONFIGS = {
    "attention, trained rows": {
        "aggregation": "att",
        "heads": 2,
        "fixed_curvature": 0,
        "use_hta": 1,
        "trainable_feat": 0,
    },
    "degree, trained features": {
        "aggregation": "deg",
        "heads": 1,
        "fixed_curvature": 1,
        "use_hta": 0,
        "trainable_feat": 1,
    },
}
FEATURES, HIDDEN, OUT, WINDOW = 5, 3, 4, 3
ROWS = torch.tensor([[0.7], [1.6], [0.4]])
RNG = draws.stream(3)
X, HIDDENS, PAIRS = (
    0.5 * RNG.normal(size=(NODES, FEATURES)),
    0.2 * RNG.normal(size=(WINDOW, NODES, OUT)),
    RNG.integers(0, NODES, (12, 2)),
)
X[3] = 0
GRAPH, TORCH_GRAPH = graphs()


def reference(config: dict) -> HTGN:
    draws.seed_torch(0)
    flags = {name: bool(config[name]) for name in ("fixed_curvature", "use_hta", "trainable_feat")}
    module = HTGN(NODES, FEATURES, HIDDEN, OUT, heads=config["heads"], aggregation=config["aggregation"], **flags)
    randomised(module, keep=("c",))
    module.c.data = (torch.full((3, 1), 0.8) if config["fixed_curvature"] else ROWS).double()
    return module


def theirs(module, dtype):
    x = None if module.trainable_feat else torch.as_tensor(X).to(dtype)
    hiddens = torch.as_tensor(HIDDENS).to(dtype)
    h = module.encode(x, TORCH_GRAPH, hiddens)
    return h, module.score(h, torch.as_tensor(PAIRS)), module.htc(h, hiddens[-1])


def ours(model, variables, dtype):
    x = None if model.trainable_feat else jnp.asarray(X, dtype)
    hiddens = jnp.asarray(HIDDENS, dtype)
    h = model.apply(variables, x, GRAPH, hiddens, method="encode")
    return h, model.apply(variables, h, PAIRS, method="score"), model.apply(variables, h, hiddens[-1], method="htc")
