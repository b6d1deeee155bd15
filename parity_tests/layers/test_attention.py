"""Lorentz attention: against the original, and the formula at 50 digits."""

import jax
import numpy as np
import pytest
from mpmath import sqrt, workdps

from parity_tests import draws, slow
from parity_tests.layers.twins import CHECKS, RADIUS, Twin, check_values_and_gradients, named
from parity_tests.oracle import lorentz
from parity_tests.oracle.networks import dense, exactly, mixed, softmax
from parity_tests.tolerances import gate, relative_error
from port_jax.layers import LorentzAttention
from port_jax.manifolds import Lorentz
from reference_torch.layers import attention as theirs

PARTS = ("query", "key", "value", "out")
NAMES = {f"{part}/linear/{n}": f"{part}.{there}" for part in PARTS for n, there in (("kernel", "weight.T"), ("bias", "bias"))}
MASK = np.array([[True, True, False, True], [True] * 4, [False, True, True, False]])


TWINS = (
    Twin("attention", "hyperboloid", LorentzAttention(6, 2), lambda _: theirs.LorentzAttention(4, 6, 2), ((2, 3, 3), (2, 4, 3)),
              {**NAMES, "scale": "scale"}, extra=(MASK,), positive=("scale",)),
)  # fmt: skip
TABLE = [(check, twin) for twin in TWINS for check in CHECKS]


@pytest.mark.parametrize(("check", "twin"), slow.all_but({(check_values_and_gradients, TWINS[0])}, TABLE), ids=named)
def test_the_original(check, twin):
    check(twin)


def test_attention_at_50_digits():
    """The first sequence: softmax of minus squared Lorentzian distances, centroids of the values, heads side by side, a linear map."""
    with workdps(50):
        raw = TWINS[0].raw(5)
        have, raw = TWINS[0].value(raw)[0], exactly(raw)
        k, params = raw["number"].item(), raw["params"]

        def linear(part, x):
            return dense(x, params[f"{part}/linear/kernel"], params[f"{part}/linear/bias"])

        def heads(part, rows):
            return [[lorentz.point(y[3 * h : 3 * h + 3], k) for y in (linear(part, x) for x in rows)] for h in range(2)]

        xs, context = ([lorentz.expmap0(list(u), k) for u in a[0]] for a in raw["points"])
        query, key, value = heads("query", xs), heads("key", context), heads("value", context)
        want = []
        for i in range(3):
            joined = []
            for h in range(2):
                apart = [[a - b for a, b in zip(query[h][i], key[h][j], strict=True)] for j in range(4) if MASK[i, j]]
                alpha = softmax([-lorentz.inner(w, w) / params["scale"].item() for w in apart])
                total = mixed(alpha, [value[h][j] for j in range(4) if MASK[i, j]])
                joined += [sqrt(k / -lorentz.inner(total, total)) * a for a in total[1:]]
            want.append(lorentz.point(linear("out", lorentz.point(joined, k)), k))
        assert relative_error(have, np.array(want, float)) < gate(RADIUS, 0)


def test_a_row_that_sees_nothing_has_equal_weights():
    layer, m = LorentzAttention(4, 2), Lorentz(1.7)
    x = m.from_tangent0(draws.rng(0).normal(size=(3, 4)))
    variables = layer.init(draws.key(0), m, x)
    run = jax.jit(lambda v, x, mask, s: layer.apply({"params": {**v["params"], "scale": s}}, m, x, None, mask))
    none, all_far = run(variables, x, np.zeros((3, 3), bool), 2.0), run(variables, x, np.ones((3, 3), bool), 1e30)
    np.testing.assert_allclose(none, all_far, rtol=1e-12)
    with pytest.raises(ValueError, match="features is 5, which 2 heads do not divide"):
        LorentzAttention(5, 2).init(draws.key(0), m, x)
