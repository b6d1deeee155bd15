"""HyboNet for knowledge graphs in Flax against torch: scores, Riemannian gradients, steps, and the bound on norms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests.models.cases_hybonet_kg import CONFIG, HEADS, RELATED, TAILS, module_of, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, converted
from port_jax.models.hybonet_kg import HyboNetKG as Ours
from weights.errors import ConversionError


def test_scores_and_gradients(tmp_path):
    module = module_of()
    ckpt = converted(module, CONFIG, tmp_path)
    assert (ckpt.arch, ckpt.model.max_scale) == ("hybonet_kg", 2.5)
    outs = check_parity(module, ckpt, theirs, ours, radius=0.9)
    check_round_trip(ckpt, tmp_path)
    triples = np.stack([HEADS, RELATED, TAILS[:, 1]], 1)
    h = ckpt.model.apply(ckpt.variables, method="encode")
    score = jax.jit(partial(ckpt.model.apply, method="score"))(ckpt.variables, h, triples)
    np.testing.assert_allclose(score, outs[0][:, 1], rtol=1e-12)


def test_confine_rescales_the_space_like_part():
    point = jnp.array([[3.0, 0.0, 4.0], [0.1, 0.2, 0.3]])
    points = jnp.concatenate([jnp.sqrt(1 + (point**2).sum(-1, keepdims=True)), point], -1)
    model = Ours(2, 1, 4, margin=6.0, max_norm=2.0)
    out = model.confine({"emb_entity": points})["emb_entity"]
    np.testing.assert_allclose(out[0], [5**0.5, 1.2, 0.0, 1.6], rtol=1e-6)
    np.testing.assert_allclose(out[1], points[1], rtol=1e-6)


def test_the_margin_has_to_be_given(tmp_path):
    with pytest.raises(ConversionError, match="margin"):
        converted(module_of(), None, tmp_path)
