"""GAT in Flax against GAT on torch: classes and links."""

from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

from parity_tests import slow
from parity_tests.models.cases_gat import CONFIGS, FRAME
from parity_tests.models.paper import ACTS, NodeCase, leaky, linear, softmax, sum_of
from parity_tests.oracle.stereographic import dot, times
from port_jax.models.gat import GAT


@pytest.mark.parametrize("name", slow.all_but({"classes"}, CONFIGS))
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path)


def paper_attention(case: NodeCase, p: Any, h: list, act: Any, masks: Any) -> list:
    """Heads act(sum_j alpha_ij W x_j) side by side, where alpha_ij = softmax_j(-LeakyReLU(a . [W x_i, W x_j])) over the edges j -> i.

    arXiv 1710.10903, eq. 1 to 5, without the sum's loops that the graph has not, and with the minus sign of HGCN's code. Masks multiply
    the input, which is one for all heads, then alpha [E, H], after the softmax, and then the output.
    """
    heads = [p[f"attention_{k}"] for k in range(len(p))]
    into, edge, out = (np.broadcast_to(next(masks), shape) for shape in ((6, len(h[0])), (len(case.edges), len(heads)), (6, 4)))
    x, found = np.array(h, object) * into, []
    for k, head in enumerate(heads):
        wx = [linear(head["W"], row) for row in x]
        columns = []
        for i in range(6):
            near = [(e, j) for e, (j, to, _) in enumerate(case.edges) if to == i]
            alpha = softmax([-leaky(dot(head["a"][0], [*wx[i], *wx[j]]), case.model.alpha) for _, j in near])
            total = sum_of((times(w * edge[e, k], wx[j]) for w, (e, j) in zip(alpha, near, strict=True)), len(wx[0]))
            columns.append([act(a) for a in total])
        found.append(np.array(columns, object))
    return np.concatenate(found, 1) * out


def test_embeddings_classes_and_links_against_the_paper_at_50_digits():
    """A layer of two heads and a classifier of one, which ends with ELU; the slope is not the usual one. No edges, no sum: act(0)."""
    case = NodeCase(GAT(3, 4, 2, n_classes=4, n_heads=2, alpha=0.3, act="tanh", dropout=0.2, r=1.3, t=0.7), 55, 1.6)
    with mpmath.workdps(50):
        (p, x), (space,) = case.exact(), case.spaces()
        for found in case.passes():
            h = paper_attention(case, p["layers_0"], x, ACTS["tanh"], found.masks)
            logits = paper_attention(case, p["decoder"], h, ACTS["elu"], found.masks)
            case.check(found, space, h, logits)
