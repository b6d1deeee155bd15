"""Initialisation: points of the manifold, with the named law in the tangent space at the origin."""

import numpy as np
import pytest

from parity_tests import draws
from parity_tests.tolerances import DEVIATIONS
from port_jax.initializers import he_normal, normal, xavier_uniform
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, SphereProjection, Stereographic

MANIFOLDS = [Euclidean(1), PoincareBall(0.7), Lorentz(2.3), SphereProjection(0.4), Stereographic(0.0)]
ROWS, D = 500, 40
WIDTH = {"Lorentz": D + 1}
# name -> (initializer, standard deviation of a tangent coordinate)
LAWS = {
    "normal": (lambda m: normal(m, 0.03), 0.03),
    "xavier": (lambda m: xavier_uniform(m, 0.5), 0.5 * (2 / (ROWS + D)) ** 0.5),
    "he": (he_normal, (2 / ROWS) ** 0.5),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("manifold", MANIFOLDS, ids=lambda m: type(m).__name__)
def test_points_of_the_manifold_with_the_law_in_the_tangent_space(manifold, law: str):
    make, deviation = LAWS[law]
    x = make(manifold)(draws.key(3), (ROWS, WIDTH.get(type(manifold).__name__, D)), np.float32)
    assert x.dtype == np.float32
    manifold.assert_check_point_on_manifold(x)
    u = np.asarray(manifold.to_tangent0(x), np.float64)
    assert u.shape == (ROWS, D)
    count = u.size  # standard errors: of the mean s / sqrt(n), of the deviation at most s / sqrt(2 n)
    assert abs(u.mean()) < DEVIATIONS * deviation / count**0.5
    assert abs(u.std() / deviation - 1) < DEVIATIONS / (2 * count) ** 0.5
