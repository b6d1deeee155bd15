"""GAT in Flax against GAT on torch: classes and links."""

from pathlib import Path

import pytest

from parity_tests import slow
from parity_tests.models.cases_gat import CONFIGS, FRAME


@pytest.mark.parametrize("name", slow.all_but({"classes"}, CONFIGS))
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path)
