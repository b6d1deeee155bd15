"""GCN in Flax against GCN on torch: classes and links."""

from pathlib import Path

import mpmath
import numpy as np
import pytest

from parity_tests.models.cases_gcn import CONFIGS, FRAME
from parity_tests.models.paper import ACTS, NodeCase, dense
from port_jax.models.gcn import GCN


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path)


def test_embeddings_classes_and_links_against_the_paper_at_50_digits():
    """H' = act(A (H W + b)) of arXiv 1609.02907, eq. 2, with the graph's weights as A; the classes are a convolution without act.

    As in HGCN's code masks multiply H W + b before the sum over neighbours.
    """
    case = NodeCase(GCN(3, 3, 3, n_classes=2, act="elu", dropout=0.4, r=1.3, t=0.7), 53, 1.6)
    with mpmath.workdps(50):
        (p, x), (space,) = case.exact(), case.spaces()
        for found in case.passes():
            h, parts = x, []
            for name in ("layers_0", "layers_1", "decoder"):
                drop = np.broadcast_to(next(found.masks), (6, len(p[name]["linear"]["bias"])))
                h = case.convolved([dense(p[name], a, m) for a, m in zip(h, drop, strict=True)])
                parts.append(h := h if name == "decoder" else [[ACTS["elu"](b) for b in a] for a in h])
            case.check(found, space, parts[1], parts[2])
