"""HyboNet for knowledge graphs in Flax against torch: scores, Riemannian gradients, steps, and the bound on norms."""

from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from parity_tests import draws, slow
from parity_tests.models.cases_hybonet_kg import CONFIG, HEADS, RELATED, TAILS, module_of, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, converted
from parity_tests.oracle import lorentz
from parity_tests.oracle.networks import dense, exactly, sigmoid
from parity_tests.oracle.stereographic import dot, plus, times
from port_jax.models.hybonet_kg import HyboNetKG as Ours
from weights.errors import ConversionError


@pytest.mark.parametrize("time_bias", slow.all_but({True}, [True, False]))
def test_scores_and_gradients(time_bias: bool, tmp_path):
    """Of files of both versions of the authors' code, which are told apart by the entry of the bias that only the first one trains."""
    module = module_of(time_bias)
    ckpt = converted(module, CONFIG, tmp_path)
    assert (ckpt.arch, ckpt.model.max_scale, ckpt.model.time_bias) == ("hybonet_kg", 2.5, time_bias)
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


@pytest.mark.parametrize("time_bias", [True, False])
def test_scores_against_the_paper_at_50_digits(time_bias: bool):
    """arXiv 2105.14686, section 4: -d^2(f_r(h), t) + b_h + b_t, where -d^2 is 2 + 2 <f_r(h), t>, with the margin in place of 2.

    The time of f_r(h) is t = scale sigmoid((W_r h + b_r)_0) + 1.1, in the authors' code since February 2022 scale sigmoid((W_r h)_0) + 1.1,
    and the space has the direction of (W_r h + b_r)_1.. and the length sqrt(t^2 - 1).
    """
    rng, model = draws.rng(61), Ours(6, 3, 4, margin=5.3, max_scale=2.5, time_bias=time_bias)
    shapes = {"relation_bias": (3, 4), "relation_transform": (3, 4, 4), "bias_head": 6, "bias_tail": 6}
    p = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    space = 0.9 * rng.normal(size=(6, 3))
    p["emb_entity"] = np.concatenate([np.sqrt(1 + (space**2).sum(-1, keepdims=True)), space], -1)
    heads, relations, tails = rng.integers(0, 6, 5), rng.integers(0, 3, 5), rng.integers(0, 6, (5, 2))
    triples = np.stack([heads, relations, tails[:, 1]], 1)

    @jax.jit
    def scores(params):
        h = model.apply({"params": params}, method="encode")
        return model.apply({"params": params}, heads, relations, tails), model.apply({"params": params}, h, triples, method="score")

    have, single = scores(p)
    exact = exactly(p)
    with mpmath.workdps(50):
        for i, (head, r) in enumerate(zip(heads, relations, strict=True)):
            y = dense(exact["emb_entity"][head], exact["relation_transform"][r].T)
            shifted = plus(y, exact["relation_bias"][r])
            time, direction = mpmath.mpf(2.5) * sigmoid((shifted if time_bias else y)[0]) + mpmath.mpf("1.1"), shifted[1:]
            moved = [time, *times(mpmath.sqrt((time**2 - 1) / dot(direction, direction)), direction)]
            for k, tail in enumerate(tails[i]):
                product = lorentz.inner(moved, exact["emb_entity"][tail])
                want = mpmath.mpf(5.3) + 2 * product + exact["bias_head"][head] + exact["bias_tail"][tail]
                assert float(have[i, k]) == pytest.approx(float(want), abs=1e-12 * (10 + abs(float(product))))
    np.testing.assert_allclose(single, have[:, 1], rtol=1e-12)
