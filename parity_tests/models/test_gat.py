"""GAT in Flax against GAT on torch: classes and links."""

from pathlib import Path

import pytest

from parity_tests import slow
from parity_tests.models.graph_models import CLASSES, Frame
from reference_torch.models.gat import GAT

FLAT = {"manifold": "Euclidean", "c": 1.0}
CONFIGS = {
    "classes": {**FLAT, "task": "nc", "n_classes": CLASSES, "num_layers": 3, "n_heads": 2, "alpha": 0.2},
    "links": {**FLAT, "task": "lp", "num_layers": 1, "act": "elu", "n_heads": 4, "alpha": 0.4},
}
FRAME = Frame(GAT, CONFIGS)


@pytest.mark.parametrize("name", slow.all_but({"classes"}, CONFIGS))
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path)
