"""RotH, RefH and AttH in Flax against torch: scores of triples and of all tails, gradients, steps."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from parity_tests import slow
from parity_tests.models.cases_kgemb import CONFIGS, TRIPLES, case, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, converted
from port_jax.models.kgemb import tangent_dist2
from weights.errors import ConversionError


@pytest.mark.parametrize("name", slow.all_but({"AttH"}, CONFIGS))  # it rotates and reflects; verify has RefH
def test_scores_and_gradients(name: str, tmp_path):
    module, config = case(name)
    ckpt = converted(module, config, tmp_path)
    assert (ckpt.arch, ckpt.model.kind) == ("kgemb", name[:4])
    outs = check_parity(module, ckpt, theirs, ours, single=name == "RotH")
    check_round_trip(ckpt, tmp_path)

    @jax.jit
    def scores(variables):
        encoded = ckpt.model.apply(variables, TRIPLES, method="encode")
        return ckpt.model.apply(variables, encoded, TRIPLES[:, [0, 2]], method="score")

    np.testing.assert_allclose(scores(ckpt.variables), outs[0], rtol=1e-12)


def test_what_the_file_does_not_say_is_asked_for(tmp_path):
    module, config = case("RotH")
    for name in ("model", "bias"):
        with pytest.raises(ConversionError, match=name):
            converted(module, {key: value for key, value in config.items() if key != name}, tmp_path)


def test_distance_to_a_far_tangent_against_50_digits():
    """At |v| = 20 the point exp_0 v is within 1e-17 of the boundary; the original stops at a distance of 12.2."""
    x, c = np.array([0.4, -0.3]), 0.7
    dist2, slopes = jax.jit(tangent_dist2), jax.jit(jax.grad(tangent_dist2, argnums=(0, 1)))
    for size in (1e-9, 0.5, 20.0):
        v = size * np.array([0.6, 0.8])
        have = dist2(jnp.asarray(x), jnp.asarray(v), jnp.asarray(c))
        with mpmath.workdps(50):
            root = mpmath.sqrt(mpmath.mpf(c))
            exact = [mpmath.mpf(float(a)) for a in v]
            norm = mpmath.sqrt(sum(a * a for a in exact))
            y = [mpmath.tanh(root * norm) / (root * norm) * a for a in exact]
            gap = sum((a - mpmath.mpf(float(b))) ** 2 for a, b in zip(y, x, strict=True))
            low = (1 - c * sum(mpmath.mpf(float(b)) ** 2 for b in x)) * (1 - c * sum(a**2 for a in y))
            want = (2 / root * mpmath.asinh(mpmath.sqrt(c * gap / low))) ** 2
        assert float(have) == pytest.approx(float(want), rel=1e-12)
    grad = slopes(jnp.asarray(x), jnp.zeros(2), jnp.asarray(c))
    assert np.isfinite(np.asarray(grad)).all()
    same = slopes(jnp.zeros(2), jnp.zeros(2), jnp.asarray(c))
    assert np.array_equal(np.asarray(same), np.zeros((2, 2)))
