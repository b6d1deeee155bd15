"""HNN in Flax against HNN on torch: ball and hyperboloid, fixed and trained curvature."""

from pathlib import Path

import pytest

from parity_tests import slow
from parity_tests.models.graph_models import CLASSES, Frame
from reference_torch.models.hnn import HNN

TANH = {"act": "tanh", "num_layers": 2}
CONFIGS = {
    "ball, links, trained": {**TANH, "task": "lp", "manifold": "PoincareBall", "c": None},
    "hyperboloid, classes": {**TANH, "task": "nc", "n_classes": CLASSES, "manifold": "Hyperboloid", "c": 1.5},
    "flat, links": {**TANH, "task": "lp", "manifold": "Euclidean", "c": 1.0},
}
FRAME = Frame(HNN, CONFIGS, 0.7)


@pytest.mark.parametrize("name", slow.all_but({"hyperboloid, classes", "flat, links"}, CONFIGS))
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path, single="classes" in name)
