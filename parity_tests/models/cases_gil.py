"""Configurations of GIL and its HGAT baseline, random models, and the outputs that are compared."""

import jax.numpy as jnp
import torch

from parity_tests import draws
from parity_tests.models.conversion import (
    NODES,
    encoded_and_called,
    graphs,
    randomised,
)
from reference_torch.models.gil import GIL, Pair

FEATURES, WIDTHS, HEADS, CLASSES = 5, [8, 8], 4, 3
BASE = {"model": "GIL", "task": "nc", "c": 1.0, "act": "relu", "n_heads": HEADS, "concat": 1, "alpha": 0.2, "bias": 1, "atten": 1,
        "dist": 1, "dataset": "airport", "optimizer": "Adam", "r": 2.0, "t": 1.0, "input_type": "eucl", "dropout": 0.4}  # fmt: skip
CONFIGS = {
    "classes": BASE,
    "links, pubmed, averaged heads": {**BASE, "task": "lp", "concat": 0, "dataset": "pubmed", "act": "elu", "r": 1.5, "t": 0.7},
    "no bias, no attention, c = 0.6": {**BASE, "bias": 0, "atten": 0, "c": 0.6},
    "pubmed classes, no distance": {**BASE, "dataset": "pubmed", "dist": 0},
    "classes, trained c": {**BASE, "c": None},
    "HGAT links, trained c": {**BASE, "model": "HGAT", "task": "lp", "c": None},
    "HGAT classes": {**BASE, "model": "HGAT", "dist": 1},
    "HGAT links": {**BASE, "model": "HGAT", "task": "lp"},
}
RNG = draws.stream(4)
X, PAIRS = 0.3 * RNG.normal(size=(NODES, FEATURES)), RNG.integers(0, NODES, (12, 2))
X[3] = 0
GRAPH, TORCH_GRAPH = graphs()


def reference(config: dict, widths: list[int] = WIDTHS) -> GIL:
    draws.seed_torch(1)
    kind = config["model"]
    flags = {name: bool(config[name]) for name in ("concat", "bias")}
    scores = {"atten": bool(config["atten"]), "dist": bool(config["dist"])} if kind == "GIL" else {"dist": False}
    classes = CLASSES if config["task"] == "nc" else None
    module = GIL(FEATURES, widths, HEADS, kind=kind, num_classes=classes, c=config["c"] or 1.3, act=config["act"], alpha=config["alpha"],
                 pubmed=config["dataset"] == "pubmed", r=config["r"], t=config["t"],
                 learnable_curvature=config["c"] is None, **flags, **scores)  # fmt: skip
    # Sums over neighbours without weights would carry the points to the boundary, where the formulas are ill-conditioned.
    return randomised(module, keep=("c",)) if config["atten"] else randomised(module, scale=0.15, shift=0.05)


def parts(h):
    return tuple(h) if isinstance(h, (Pair, tuple)) else (h,)


def theirs(module, dtype):
    x = torch.as_tensor(X).to(dtype)
    h = module.encode(x, TORCH_GRAPH)
    return *parts(h), module(x, TORCH_GRAPH) if module.decoder is not None else module.score(h, torch.as_tensor(PAIRS))


def ours(model, variables, dtype):
    x = jnp.asarray(X, dtype)
    h, out = encoded_and_called(model, variables, x, GRAPH)
    return *parts(h), model.apply(variables, h, PAIRS, method="score") if model.num_classes is None else out
