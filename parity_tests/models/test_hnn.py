"""HNN in Flax against HNN on torch: ball and hyperboloid, fixed and trained curvature."""

from pathlib import Path

import pytest

from parity_tests import slow
from parity_tests.models.cases_hnn import CONFIGS, FRAME


@pytest.mark.parametrize("name", slow.all_but({"hyperboloid, classes", "flat, links"}, CONFIGS))
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path, single="classes" in name)
