"""MLP in Flax against MLP on torch: classes and links."""

from pathlib import Path

import pytest

from parity_tests.models.graph_models import Frame
from parity_tests.models.test_gcn import CONFIGS
from reference_torch.models.mlp import MLP

FRAME = Frame(MLP, CONFIGS, 1.5)


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path)
