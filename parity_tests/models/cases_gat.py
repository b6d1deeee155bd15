"""Configurations of GAT."""

from parity_tests.models.graph_models import CLASSES, Frame
from reference_torch.models.gat import GAT

FLAT = {"manifold": "Euclidean", "c": 1.0}
CONFIGS = {
    "classes": {**FLAT, "task": "nc", "n_classes": CLASSES, "num_layers": 3, "n_heads": 2, "alpha": 0.2},
    "links": {**FLAT, "task": "lp", "num_layers": 1, "act": "elu", "n_heads": 4, "alpha": 0.4},
}
FRAME = Frame(GAT, CONFIGS)
