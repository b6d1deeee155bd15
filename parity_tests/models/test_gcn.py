"""GCN in Flax against GCN on torch: classes and links."""

from pathlib import Path

import pytest

from parity_tests.models.cases_gcn import CONFIGS, FRAME


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path)
