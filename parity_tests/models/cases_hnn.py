"""Configurations of HNN."""

from parity_tests.models.graph_models import CLASSES, Frame
from reference_torch.models.hnn import HNN

TANH = {"act": "tanh", "num_layers": 2}
CONFIGS = {
    "ball, links, trained": {**TANH, "task": "lp", "manifold": "PoincareBall", "c": None},
    "hyperboloid, classes": {**TANH, "task": "nc", "n_classes": CLASSES, "manifold": "Hyperboloid", "c": 1.5},
    "flat, links": {**TANH, "task": "lp", "manifold": "Euclidean", "c": 1.0},
}
FRAME = Frame(HNN, CONFIGS, 0.7)
