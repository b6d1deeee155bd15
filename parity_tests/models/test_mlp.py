"""MLP in Flax against MLP on torch: classes and links."""

from pathlib import Path

import mpmath
import numpy as np
import pytest

from parity_tests.models.cases_gcn import CONFIGS
from parity_tests.models.cases_mlp import FRAME
from parity_tests.models.paper import ACTS, NodeCase, dense
from port_jax.models.mlp import MLP


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path)


def test_embeddings_classes_and_links_against_the_formula_at_50_digits():
    """act(dropout(x W + b)); the classes are W log_0 h + b and links have the ball's distance, where HGCN's code is given a ball."""
    case = NodeCase(MLP(3, 3, 3, n_classes=2, act="tanh", dropout=0.4, r=1.3, t=0.7, manifold="PoincareBall", c=0.2), 54, 1.6)
    with mpmath.workdps(50):
        (p, h), (space,) = case.exact(), case.spaces()
        for found in case.passes():
            drops = [np.broadcast_to(next(found.masks), (6, width)) for width in (3, 3, 2)]
            ends = []
            for row, *masks_of_row in zip(h, *drops, strict=True):
                for l in range(2):
                    row = [ACTS["tanh"](a) for a in dense(p[f"layers_{l}"], row, masks_of_row[l])]
                ends.append((row, dense(p["decoder"], space.logmap0(row), masks_of_row[2])))
            case.check(found, space, *(list(part) for part in zip(*ends, strict=True)))
