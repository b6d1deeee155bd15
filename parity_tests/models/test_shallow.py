"""Shallow embeddings in Flax against those on torch: trained and pretrained tables, with and without features."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf

from parity_tests import slow
from parity_tests.models.cases_shallow import CONFIGS, FRAME, placed, reference
from parity_tests.models.conversion import converted
from parity_tests.models.paper import ACTS, NodeCase, check, dense, fermi_dirac
from parity_tests.oracle import lorentz
from parity_tests.oracle import stereographic as ball
from port_jax.manifolds import PoincareBallExact
from port_jax.models.shallow import Shallow
from weights.proof.verify import verify


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path, reference(FRAME.config(name)), single="links on the ball" in name)


@pytest.mark.slow  # test_verify.py has HGAT with a trained curvature
def test_verify_of_a_trained_curvature_without_an_optimizer(tmp_path: Path):
    """The fresh optimizer lets the curvature stand: it would leave points off the hyperboloid, where geoopt's gradients are NaN."""
    config = FRAME.config("links on the hyperboloid") | {"c": None}
    module = FRAME.module(config)
    module.c.data = torch.tensor([1.7], dtype=torch.float64)
    ckpt = converted(placed(module), config, tmp_path)
    rows = verify(ckpt, tmp_path / "model.pth")
    assert [row for row in rows if not row.ok] == []
    assert {row.what for row in rows if row.level == "step"} == {f"{key} (fresh RiemannianAdam)" for key in ("c", "encoder.lt")}
    wrong = replace(ckpt, variables={"params": {**ckpt.variables["params"], "manifolds_0": {"c": jnp.array([1.8])}}})
    assert "step" in {row.level for row in verify(wrong, tmp_path / "model.pth", types=("float64",)) if not row.ok}


def test_the_table_moves_by_the_exponential_map():
    config = FRAME.config("links on the ball")
    model = load_model(config)
    assert isinstance(model.manifolds({"lt": None})["lt"], PoincareBallExact)


def load_model(config: dict):
    return Shallow(**{k: v for k, v in config.items() if k not in ("model", "pretrained_embeddings")})


def table_case(manifold: str, seed: int, farthest: float = 1.0, **options: Any) -> NodeCase:
    """A case whose table has its points in general position; on the hyperboloid the space part of the last is `farthest` long."""
    case = NodeCase(Shallow(manifold=manifold, n_nodes=6, **{"r": 1.3, "t": 0.7, **options}), seed, 1.2)
    if manifold == "Hyperboloid":
        lt = case.params["lt"]
        lt[5, 1:] *= farthest / np.linalg.norm(lt[5, 1:])
        lt[:, 0] = np.sqrt(1 / case.curvature() + (lt[:, 1:] ** 2).sum(-1))
    elif options.get("pretrained") is None:
        case.params["lt"] *= 0.8 / np.sqrt(case.curvature()) / np.linalg.norm(case.params["lt"], axis=-1, keepdims=True).max()
    return case


@pytest.mark.parametrize(("manifold", "c"), slow.all_but({("Hyperboloid", 0.6)}, [("Hyperboloid", 0.6), ("PoincareBall", None)]))
def test_classes_and_links_of_a_table_at_50_digits(manifold: str, c: float | None):
    """The embeddings are the table; classes are dropout(W log_0 h + b).

    On the hyperboloid, the squared distance of node 5 from node 1 is above 50, where HGCN's code cuts it off; t is so large that it shows.
    """
    case = table_case(manifold, 56, 300.0, feat_dim=3, dim=4, task="nc", n_classes=2, use_feats=False, c=c, dropout=0.4, t=9.0)
    with mpmath.workdps(50):
        (p, _), (space,) = case.exact(), case.spaces()
        h = [list(row) for row in p["lt"]]
        for found in case.passes():
            case.check(found, space, h, case.classified(p, space, h, next(found.masks)), 50 if manifold == "Hyperboloid" else mpmath.inf)
    assert manifold != "Hyperboloid" or space.dist2(h[5], h[1]) > 50


def test_classes_and_links_of_a_pretrained_table_at_50_digits():
    """[table, features] through layers act(dropout(W x + b)), whose outputs the ball takes for points."""
    case = table_case("PoincareBall", 57, feat_dim=3, dim=4, num_layers=3, n_classes=2, pretrained=2, c=0.2, act="tanh", dropout=0.3)
    with mpmath.workdps(50):
        (p, x), (space,) = case.exact(), case.spaces()
        for found in case.passes():
            h = [[*row, *own] for row, own in zip(p["lt"], x, strict=True)]
            for l in range(2):
                kept = np.broadcast_to(next(found.masks), (6, 4))
                h = [[ACTS["tanh"](a) for a in dense(p[f"layers_{l}"], row, m)] for row, m in zip(h, kept, strict=True)]
            case.check(found, space, h, case.classified(p, space, h, next(found.masks)))


@pytest.mark.parametrize("manifold", ["PoincareBall", "Hyperboloid"])
def test_links_of_points_with_features_at_50_digits(manifold: str):
    """HGCN's formulas at the joined rows: (2 / sqrt(c)) artanh(sqrt(c) |-x (+) y|) and arcosh(-c <x, y>) / sqrt(c), 0 below arcosh(1).

    On the ball rows 1, 2 and 4 are outside, the others inside.
    """
    case = table_case(manifold, 58, feat_dim=3 + (manifold == "Hyperboloid"), dim=3, task="lp", num_layers=0, c=0.6)
    outside = np.array([False, True, True, False, True, False])
    case.x *= (np.where(outside, 2.0, 0.2) / np.sqrt(0.6) / np.linalg.norm(case.x, axis=-1))[:, None]
    (found,) = case.passes()
    c = mpf(0.6)
    with mpmath.workdps(50):
        p, x = case.exact()
        h = [[*row, *own] for row, own in zip(p["lt"], x, strict=True)]
        scores = []
        for i, j in case.PAIRS:
            if manifold == "Hyperboloid":
                far = min(mpmath.acosh(max(-c * lorentz.inner(h[i], h[j]), mpf(1))) ** 2 / c, mpf(50))
            elif (c * ball.dot(h[i], h[i]) < 1) == (c * ball.dot(h[j], h[j]) < 1):
                far = ball.dist2(h[i], h[j], -c)
            else:
                far = mpmath.inf
            scores.append(fermi_dirac(far, 1.3, 0.7))
    check(found.h, h)
    check(found.scores, scores)
