"""MuRP and MuRE in Flax against torch, and steps along geodesics as the authors' optimizer takes them."""

from functools import partial

import geoopt
import jax
import numpy as np
import pytest

from parity_tests.models.cases_murp import TRIPLES, module_of, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, check_steps, converted
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
