"""HGCN in Flax against HGCN on torch: three spaces, attention, local aggregation, fixed and trained curvatures."""

from pathlib import Path
from typing import Any

import mpmath
import pytest
import torch

from parity_tests import slow
from parity_tests.models.cases_hgcn import CONFIGS, FRAME, reference
from parity_tests.models.conversion import converted
from parity_tests.models.paper import ACTS, NodeCase, hyperbolic_linear, linear, sigmoid, sum_of
from parity_tests.oracle.stereographic import times
from port_jax.models.hgcn import HGCN
from weights.checkpoint import load
from weights.errors import ConversionError


@pytest.mark.parametrize("name", slow.all_but({"hyperboloid, classes, trained", "flat, links"}, CONFIGS))
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path, reference(FRAME.config(name)), single=name == "ball, classes")


def test_a_trained_curvature_has_one_value_under_all_names(tmp_path: Path):
    config = FRAME.config("ball, links, trained, local")
    module = reference(config)
    names = [key for key in module.state_dict() if key.rpartition(".")[2] in ("c", "c_in", "c_out")]
    assert len(names) == 10
    state = dict(module.state_dict())
    state["encoder.layers.1.agg.c"] = state["encoder.layers.1.agg.c"] + 1e-7
    torch.save(state, tmp_path / "untied.pth")
    with pytest.raises(ConversionError, match=r"encoder\.layers\.1\.agg\.c"):
        load(tmp_path / "untied.pth", config=config)
    params = converted(module, config, tmp_path).variables["params"]
    assert len(params) == 5  # two layers, three curvatures
    assert [params[f"manifolds_{l}"]["c"].item() for l in range(3)] == [0.6, 1.7, 0.9]


def test_curvature_is_asked_for(tmp_path: Path):
    config = FRAME.config("ball, classes")
    torch.save(reference(config).state_dict(), tmp_path / "model.pth")
    bare = {k: v for k, v in config.items() if k != "c"}
    with pytest.raises(ConversionError, match="curvature"):
        load(tmp_path / "model.pth", config=bare)
    assert load(tmp_path / "model.pth", config=bare, curvature=0.75).model.c == 0.75


def test_the_model_is_named_where_keys_do_not_tell(tmp_path: Path):
    config = {**FRAME.config("ball, classes"), "use_att": 0}
    torch.save(reference(config).state_dict(), tmp_path / "model.pth")
    config = {k: v for k, v in config.items() if k != "model"}
    with pytest.raises(ConversionError, match="hgcn, hnn"):
        load(tmp_path / "model.pth", config=config)
    assert load(tmp_path / "model.pth", config=config, arch="hgcn").arch == "hgcn"


def paper_layer(case: NodeCase, here: Any, after: Any, p: Any, rows: list, mask: Any) -> list:
    """A layer of arXiv 1910.12933, section 4, from the points of one curvature to those of the next.

    y_i = exp_0(W log_0 x_i) (+) exp_0(b); the weight of j -> i is the adjacency's, with attention times sigmoid(w . [log_0 y_i, log_0 y_j]
    + b), as in the authors' code; the sum of log_0 y_j is taken to exp_0, locally that of log_(y_i) y_j to exp_(y_i) (eq. 9), for which the
    authors' code has exp_s(y_i) at the sum s on the ball; and act(log_0 z_i) goes to exp_0 of the next curvature (eq. 10).
    """
    model, act = case.model, ACTS[case.model.act]
    y = [hyperbolic_linear(here, p["linear"], row, mask) for row in rows]
    u = [here.logmap0(a) for a in y]
    out = []
    for i in range(len(y)):
        parts = []
        for j, k, w in case.edges:
            if k == i:
                if model.use_att:
                    w = w * sigmoid(linear(p["agg"]["att"]["kernel"], [*u[i], *u[j]], p["agg"]["att"]["bias"])[0])
                parts.append(times(w, here.logmap(y[i], y[j]) if model.local_agg else u[j]))
        s = sum_of(parts, len(y[i]))
        base, tangent = (s, y[i]) if model.manifold == "PoincareBall" else (y[i], s)
        z = here.expmap(base, tangent) if model.local_agg else here.expmap0(s)
        out.append(after.expmap0([act(a) for a in here.logmap0(z)]))
    return out


CASES = {
    "ball, attention": {"manifold": "PoincareBall", "use_att": True},
    "ball, local": {"manifold": "PoincareBall", "use_att": True, "local_agg": True},
    "hyperboloid, sums": {"manifold": "Hyperboloid", "act": "relu"},
    "hyperboloid, attention, dropout": {"manifold": "Hyperboloid", "use_att": True, "dropout": 0.4},
    "hyperboloid, local": {"manifold": "Hyperboloid", "use_att": True, "local_agg": True},
    "flat, local": {"manifold": "Euclidean", "use_att": True, "local_agg": True, "act": None},
}


@pytest.mark.parametrize("name", slow.all_but({"ball, local", "hyperboloid, attention, dropout"}, CASES))
def test_embeddings_classes_and_links_against_the_paper_at_50_digits(name: str):
    """Three trained curvatures; in training masks multiply the two W and the logits, W log_0 h + b, and nothing else."""
    options = {"act": "tanh", **CASES[name]}
    wide = 3 + (options["manifold"] == "Hyperboloid")
    case = NodeCase(HGCN(wide, wide, 3, n_classes=2, c=None, r=1.3, t=0.7, **options), 51)
    with mpmath.workdps(50):
        p, x = case.exact()
        spaces = case.spaces()
        for found in case.passes():
            h = [spaces[0].expmap0(row) for row in x]
            for l in range(2):
                h = paper_layer(case, spaces[l], spaces[l + 1], p[f"layers_{l}"], h, next(found.masks))
            logits = case.classified(p, spaces[2], h, next(found.masks))
            case.check(found, spaces[2], h, logits, 50)
