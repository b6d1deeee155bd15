"""Configurations of shallow embeddings, and random models of them."""

import torch

from parity_tests.models.graph_models import CLASSES, NODES, Frame
from reference_torch.models.shallow import Shallow

BASE = {"dim": 4, "n_nodes": NODES, "bias": 1, "dropout": 0.0, "r": 2.0, "t": 0.7, "act": "relu"}
LP = {"task": "lp", "num_layers": 0, "pretrained_embeddings": None}
CONFIGS = {
    "links on the ball": {**LP, "manifold": "PoincareBall", "c": 0.75, "use_feats": 0},
    "links with features beside the points": {**LP, "manifold": "PoincareBall", "c": 1.5, "use_feats": 1},
    "links on the hyperboloid": {**LP, "manifold": "Hyperboloid", "c": 0.8, "use_feats": 0},
    "links on the hyperboloid, features beside the points": {**LP, "manifold": "Hyperboloid", "c": 0.8, "use_feats": 1},
    "classes, pretrained": {"task": "nc", "n_classes": CLASSES, "num_layers": 2, "manifold": "Euclidean", "c": 1.0, "use_feats": 1,
                            "pretrained_embeddings": "embeddings.npy"},
}  # fmt: skip


FRAME = Frame(Shallow, CONFIGS, 1.0, BASE, ("model", "pretrained_embeddings"))


def reference(config: dict) -> Shallow:
    return placed(FRAME.module(config, pretrained=3 if config["pretrained_embeddings"] else None))


def placed(module: Shallow) -> Shallow:
    """A trained table with its points in general position."""
    if module.own.get("pretrained") is None:
        tangent = 0.5 * torch.randn(module.encoder.lt.shape, dtype=torch.float64)
        tangent[:, 0] *= not module.space.time
        module.encoder.lt.data = module.space.exp0(tangent, module.c).detach()
    return module
