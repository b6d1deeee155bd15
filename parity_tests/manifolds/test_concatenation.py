"""Several points as one of more dimensions, against the definitions: lengths of normal vectors by mpmath, and coordinates of geoopt."""

from __future__ import annotations

import geoopt
import mpmath
import numpy as np
import pytest
import torch

from parity_tests import draws
from port_jax.manifolds import Lorentz, PoincareBall
from port_jax.manifolds.hyperboloid.concatenation import direct_concatenate
from port_jax.manifolds.stereographic.concatenation import beta_concatenate, beta_ratio


@pytest.mark.parametrize(("whole", "part"), [(4, 2), (9, 3), (40, 5), (7, 7)])
def test_the_mean_length_of_normal_vectors_stays(whole: int, part: int):
    """E|v| of n normal numbers with standard deviation 1/E_n is 1, E_n = sqrt(2) Gamma((n + 1)/2)/Gamma(n/2)."""
    mean = lambda n: mpmath.sqrt(2) * mpmath.gamma(mpmath.mpf(n + 1) / 2) / mpmath.gamma(mpmath.mpf(n) / 2)  # noqa: E731
    assert abs(beta_ratio(whole, part) - mean(part) / mean(whole)) < 1e-14


def test_balls_side_by_side():
    c, x = 0.7, 0.3 * draws.rng(0).standard_normal((5, 3, 2))
    theirs = geoopt.PoincareBall(torch.tensor(c, dtype=torch.float64))
    tangents = theirs.logmap0(torch.tensor(x)).reshape(5, 6) * float(mpmath.beta(3, 0.5) / mpmath.beta(1, 0.5))
    np.testing.assert_allclose(beta_concatenate(x, -c), theirs.expmap0(tangents), rtol=1e-12)
    np.testing.assert_allclose(beta_concatenate(x[:, :1], -c), x[:, 0], rtol=1e-12)  # a single one is itself
    assert PoincareBall(c).check_point_on_manifold(beta_concatenate(x, -c))


def test_hyperboloids_side_by_side():
    k, rng = 1.7, draws.rng(1)
    theirs = geoopt.Lorentz(torch.tensor(k, dtype=torch.float64))
    x = theirs.projx(torch.tensor(rng.standard_normal((5, 3, 4))))
    found = np.asarray(direct_concatenate(x.numpy(), k))
    np.testing.assert_array_equal(found[:, 1:], x[..., 1:].reshape(5, 9))
    np.testing.assert_allclose(found[:, 0] ** 2, (x[..., 0] ** 2).sum(-1) - 2 * k, rtol=1e-13)
    assert Lorentz(k).check_point_on_manifold(found)
    np.testing.assert_allclose(direct_concatenate(x[:, :1].numpy(), k), x[:, 0], rtol=1e-14)
