"""Convolutions: against the originals, and the formulas at 50 digits."""

import numpy as np
import pytest
import torch
from mpmath import beta, mpf, workdps

from parity_tests import slow
from parity_tests.layers.twins import CHECKS, RADIUS, Twin, check_values_and_gradients, named
from parity_tests.oracle import lorentz, stereographic
from parity_tests.oracle.networks import dense, exactly
from parity_tests.tolerances import gate, relative_error
from port_jax.layers import LorentzConv2d, PoincareConv2d
from port_jax.manifolds.stereographic.concatenation import beta_ratio
from reference_torch.layers import convolution as theirs

FORM = ((2, 3), (1, 2), (1, 0))
"""Kernel, strides, padding."""
IMAGE = ((2, 3, 5, 2),)


def hyplls(module, params, m, points):
    """HypLL's `weights` [in rows columns, out], the channel first."""
    kernel = params["z"].permute(2, 0, 1, 3).reshape(-1, 3)
    return torch.func.functional_call(module, {"z": kernel, "bias": params["bias"]}, (m, *points))


TWINS = (
    Twin("poincare", "ball", PoincareConv2d(3, *FORM), lambda _: theirs.PoincareConv2d(2, 3, *FORM), IMAGE, {"kernel": "z", "bias": "bias"},
         theirs=hyplls),
    Twin("lorentz", "hyperboloid", LorentzConv2d(3, *FORM), lambda _: theirs.LorentzConv2d(2, 3, *FORM), IMAGE,
         {"linear/kernel": "weight.T", "linear/bias": "bias"}),
)  # fmt: skip
TABLE = [(check, twin) for twin in TWINS for check in CHECKS]


@pytest.mark.parametrize(("check", "twin"), slow.all_but({(check_values_and_gradients, TWINS[0])}, TABLE), ids=named)
def test_the_original(check, twin):
    check(twin)


def window(image: np.ndarray, i: int, j: int) -> list:
    """The tangent coordinates of the six pixels of the window at row i and column j of the output; zeros outside of the image."""
    rows, columns = [i - 1, i], [2 * j, 2 * j + 1, 2 * j + 2]
    nothing = [mpf(0)] * image.shape[-1]
    return [list(image[a, b]) if 0 <= a < image.shape[0] else nothing for a in rows for b in columns]


def test_beta_concatenation_keeps_its_factor():
    for whole, part in ((18, 2), (7, 7), (300, 5)):
        assert abs(beta_ratio(whole, part) - float(beta(whole / 2, 0.5) / beta(part / 2, 0.5))) < 1e-13 * beta_ratio(whole, part)


def test_poincare_convolution_at_50_digits():
    """The distances of an output to its coordinate planes are 2|z| times those of the beta concatenation to its hyperplanes."""
    with workdps(50):
        raw = TWINS[0].raw(5)
        # Half as far: of an output at a distance of 15 the last projection, geoopt's, keeps 14.6.
        raw["params"] = {name: array / 2 for name, array in raw["params"].items()}
        have, raw = TWINS[0].value(raw), exactly(raw)
        k, kernel, bias = -raw["number"].item(), raw["params"]["kernel"].reshape(-1, 3), raw["params"]["bias"]
        for i, j in ((0, 1), (2, 0)):
            parts = window(raw["points"][0][0], i, j)
            factor = beta(mpf(6), mpf(1) / 2) / beta(mpf(1), mpf(1) / 2)
            x = stereographic.expmap0([factor * a for part in parts for a in part], k)
            y = list(exactly(have[0, i, j]))
            for f in range(3):
                z = list(kernel[:, f])
                length = stereographic.dot(z, z) ** (mpf(1) / 2)
                p = stereographic.expmap0(stereographic.times(bias[f] / length, z), k)
                want = 2 * length * stereographic.dist2plane(x, p, z, k)
                found = stereographic.dist2plane(y, [mpf(0)] * 3, [mpf(f == g) for g in range(3)], k)
                assert abs(found - want) < 10 * gate(RADIUS, 0) * (1 + abs(want))


@pytest.mark.slow
def test_lorentz_convolution_at_50_digits():
    with workdps(50):
        raw = TWINS[1].raw(5)
        have, raw = TWINS[1].value(raw), exactly(raw)
        k = raw["number"].item()
        for i, j in ((0, 1), (2, 0)):
            spaces = [a for part in window(raw["points"][0][0], i, j) for a in lorentz.expmap0(part, k)[1:]]
            want = lorentz.point(dense(lorentz.point(spaces, k), raw["params"]["linear/kernel"], raw["params"]["linear/bias"]), k)
            assert relative_error(have[0, i, j], np.array(want, float)) < gate(RADIUS, 0)
