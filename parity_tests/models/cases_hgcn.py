"""Configurations of HGCN, and random models of them."""

import torch

from parity_tests.models.graph_models import CLASSES, Frame
from reference_torch.models.hgcn import HGCN

BASE = {"dim": 4, "num_layers": 3, "act": "tanh", "bias": 1, "dropout": 0.0, "r": 2.0, "t": 0.7, "use_att": 0, "local_agg": 0}
NC, LP = {"task": "nc", "n_classes": CLASSES}, {"task": "lp", "num_layers": 2}
CONFIGS = {
    "ball, classes": {**NC, "manifold": "PoincareBall", "c": 0.75, "use_att": 1},
    "ball, links, trained, local": {**LP, "manifold": "PoincareBall", "c": None, "use_att": 1, "local_agg": 1},
    "hyperboloid, classes, trained": {**NC, "num_layers": 2, "manifold": "Hyperboloid", "c": None, "use_att": 1, "act": "relu"},
    "hyperboloid, links, local": {**LP, "manifold": "Hyperboloid", "c": 1.5, "use_att": 1, "local_agg": 1},
    "hyperboloid, links, no bias": {**LP, "manifold": "Hyperboloid", "c": 0.5, "bias": 0},
    "flat, links": {**LP, "manifold": "Euclidean", "c": 1.0, "use_att": 1, "local_agg": 1, "act": None},
}
FRAME = Frame(HGCN, CONFIGS, 0.7, BASE)


def reference(config: dict) -> HGCN:
    module = FRAME.module(config)
    if config["c"] is None:
        trained = [layer.linear.c for layer in module.encoder.layers] + [module.c]
        for c, value in zip(trained, (0.6, 1.7, 0.9)[: len(trained)], strict=True):
            c.data = torch.tensor([value], dtype=torch.float64)
    return module
