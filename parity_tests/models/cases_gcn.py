"""Configurations of GCN."""

from parity_tests.models.graph_models import CLASSES, Frame
from reference_torch.models.gcn import GCN

FLAT = {"manifold": "Euclidean"}
CONFIGS = {
    "classes": {**FLAT, "task": "nc", "n_classes": CLASSES, "num_layers": 3, "c": 1.0, "act": "elu"},
    "links, a curvature that is stored and unused": {**FLAT, "task": "lp", "num_layers": 2, "act": None, "c": None, "bias": 0},
}
FRAME = Frame(GCN, CONFIGS, 1.5)
