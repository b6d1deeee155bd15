"""HNN in Flax against HNN on torch: ball and hyperboloid, fixed and trained curvature."""

from pathlib import Path

import mpmath
import pytest

from parity_tests import slow
from parity_tests.models.cases_hnn import CONFIGS, FRAME
from parity_tests.models.paper import ACTS, NodeCase, hyperbolic_linear
from port_jax.models.hnn import HNN


@pytest.mark.parametrize("name", slow.all_but({"hyperboloid, classes", "flat, links"}, CONFIGS))
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path, single="classes" in name)


@pytest.mark.parametrize(
    ("manifold", "c", "bias"),
    slow.all_but({("PoincareBall", None, True)}, [("PoincareBall", None, True), ("Hyperboloid", 1.7, True), ("PoincareBall", 0.6, False)]),
)
def test_embeddings_classes_and_links_against_the_paper_at_50_digits(manifold: str, c: float | None, bias: bool):
    """Layers exp_0(act(log_0(W (x) x (+) b))) of arXiv 1805.09112, section 3.2, and the classes W log_0 h + b, as HGCN's code has them.

    In training masks multiply both W and the logits.
    """
    wide = 3 + (manifold == "Hyperboloid")
    case = NodeCase(HNN(wide, wide, 3, n_classes=2, manifold=manifold, c=c, act="tanh", bias=bias, dropout=0.3, r=1.3, t=0.7), 52)
    with mpmath.workdps(50):
        (p, x), (space,) = case.exact(), case.spaces()
        for found in case.passes():
            h = [space.expmap0(row) for row in x]
            for l in range(2):
                mask, layer = next(found.masks), p[f"layers_{l}"]["linear"]
                h = [space.logmap0(hyperbolic_linear(space, layer, a, mask, bias)) for a in h]
                h = [space.expmap0([ACTS["tanh"](b) for b in a]) for a in h]
            logits = case.classified(p, space, h, next(found.masks))
            case.check(found, space, h, logits, 50)
