"""MuRP and MuRE in Flax against torch, and steps along geodesics as the authors' optimizer takes them."""

from functools import partial

import geoopt
import jax
import mpmath
import numpy as np
import pytest

from parity_tests import draws
from parity_tests.models.cases_murp import DIM, ENTITIES, RELATIONS, TRIPLES, module_of, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, check_steps, converted
from parity_tests.oracle import stereographic as ball
from port_jax.models import murp
from reference_torch.models.murp import MuRE, MuRP


@pytest.mark.parametrize("kind", [MuRP, MuRE])
def test_scores_and_gradients(kind: type, tmp_path):
    module = module_of(kind)
    ckpt = converted(module, None, tmp_path)
    assert (ckpt.arch, ckpt.model.hyperbolic) == ("murp", kind is MuRP)
    outs = check_parity(module, ckpt, theirs, ours, radius=0.9)
    check_round_trip(ckpt, tmp_path)
    triples = np.stack([part.reshape(-1) for part in TRIPLES], 1)
    h = ckpt.model.apply(ckpt.variables, method="encode")
    score = jax.jit(partial(ckpt.model.apply, method="score"))(ckpt.variables, h, triples)
    np.testing.assert_allclose(score, outs[0].reshape(-1), rtol=1e-12)


def test_steps(tmp_path):
    module = module_of(MuRP)
    check_steps(module, geoopt.optim.RiemannianSGD(module.parameters(), lr=0.02), None, tmp_path, theirs, ours)


@pytest.mark.parametrize("hyperbolic", [True, False])
def test_scores_against_the_paper_at_50_digits(hyperbolic: bool):
    """arXiv 1905.09791, section 3: MuRP is -d(exp_0(R log_0 h_s), h_o (+) r)^2 + b_s + b_o, MuRE is -|R e_s - (e_o + r)|^2 + b_s + b_o."""
    rng, model = draws.rng(31), murp.MuRP(ENTITIES, RELATIONS, DIM, hyperbolic=hyperbolic)
    p = {name: rng.normal(size=(rows, DIM)) for name, rows in (("Eh", ENTITIES), ("rvh", RELATIONS), ("Wu", RELATIONS))}
    for name in ("Eh", "rvh"):
        p[name] *= rng.uniform(0.2, 0.8, (len(p[name]), 1)) / np.linalg.norm(p[name], axis=-1, keepdims=True)
    p |= {"bs": rng.normal(size=ENTITIES), "bo": 2 * rng.normal(size=ENTITIES)}
    triples = np.stack([rng.integers(0, n, 8) for n in (ENTITIES, RELATIONS, ENTITIES)], 1)

    @jax.jit
    def scores(params):
        call, encoded = model.apply({"params": params}, *triples.T), model.apply({"params": params}, method="encode")
        return call, model.apply({"params": params}, encoded, triples, method="score")

    have = scores(p)
    exact = {name: np.vectorize(mpmath.mpf, otypes=[object])(table) for name, table in p.items()}
    with mpmath.workdps(50):
        for i, (s, r, o) in enumerate(triples):
            subject, diagonal, target, translation = exact["Eh"][s], exact["Wu"][r], exact["Eh"][o], exact["rvh"][r]
            if hyperbolic:
                moved = ball.expmap0([w * a for w, a in zip(diagonal, ball.logmap0(subject, -1), strict=True)], -1)
                square = ball.dist(moved, ball.mobius_add(target, translation, -1), -1) ** 2
            else:
                square = sum((diagonal * subject - (target + translation)) ** 2)
            want = exact["bs"][s] + exact["bo"][o] - square
            scale = float(square + abs(exact["bs"][s]) + abs(exact["bo"][o]))
            for score in have:
                assert float(score[i]) == pytest.approx(float(want), abs=1e-12 * scale)
