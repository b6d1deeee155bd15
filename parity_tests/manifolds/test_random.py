"""Samples of the constant-curvature manifolds: their moments in the tangent space, seen through the logarithm."""

from __future__ import annotations

from typing import Any

import geoopt
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.tolerances import DEVIATIONS
from port_jax.manifolds import Lorentz, Stereographic

N, D = 4000, 3


def reference(manifold: Any, k: float) -> Any:
    """geoopt's manifold in float64."""
    return manifold(torch.tensor(k, dtype=torch.float64))


def normal(samples, mean, std):
    """Mean and deviation within DEVIATIONS standard errors of those of N normal numbers."""
    np.testing.assert_allclose(samples.mean(0), mean, atol=DEVIATIONS * std / N**0.5)
    np.testing.assert_allclose(samples.std(0), std, atol=DEVIATIONS * std / (2 * N) ** 0.5)


@pytest.mark.parametrize("k", [-1.3, 0.0, 0.6])
def test_stereographic_random_normal(k):
    """Deviation std/sqrt(d) a coordinate around the mean, as geoopt's, whose moments are the same."""
    manifold = Stereographic(k)
    x = manifold.random_normal(draws.key(0), N, D, mean=0.1, std=0.4)
    normal(manifold.logmap0(x), 0.1, 0.4 / D**0.5)
    draws.seed_torch(0)
    other = reference(geoopt.Stereographic, k)
    theirs = other.random_normal(N, D, mean=0.1, std=0.4)
    normal(other.logmap0(theirs).detach().numpy(), 0.1, 0.4 / D**0.5)


@pytest.mark.parametrize("k", [-1.3, 0.0, 0.6])
def test_stereographic_wrapped_normal(k):
    """Deviation std in the metric at the mean, as geoopt's."""
    manifold, mean = Stereographic(k), jnp.array([0.3, -0.2, 0.1])
    length = float(manifold.lambda_x(mean))
    x = manifold.wrapped_normal(draws.key(1), N, D, mean=mean, std=0.4)
    normal(manifold.logmap(mean, x) * length, 0, 0.4)
    draws.seed_torch(0)
    other = reference(geoopt.Stereographic, k)
    at = torch.tensor(np.asarray(mean))
    theirs = other.wrapped_normal(N, D, mean=at, std=torch.tensor(0.4, dtype=torch.float64))
    normal(other.logmap(at, theirs).detach().numpy() * length, 0, 0.4)


@pytest.mark.parametrize("k", [0.6, 1.0, 4.0])
def test_lorentz_random_normal(k):
    """Directions: the tangent at the origin has Euclidean length 1, its time coordinate is one of d + 1 normal numbers."""
    manifold = Lorentz(k)
    x = manifold.random_normal(draws.key(2), N, D + 1, std=0.4)
    assert manifold.check_point_on_manifold(x)
    np.testing.assert_array_equal(manifold.random(draws.key(2), N, D + 1, std=0.4), x)
    u = np.asarray(manifold.logmap0(x))[:, 1:]
    draws.seed_torch(0)
    other = reference(geoopt.Lorentz, k)
    theirs = other.logmap0(other.random_normal(N, D + 1, std=0.4, dtype=torch.float64)).detach().numpy()[:, 1:]
    for sample in (u, theirs):
        spread = sample.std(0).max()
        np.testing.assert_allclose(sample.mean(0), 0, atol=DEVIATIONS * spread / N**0.5)
    # Both have the same distribution of lengths, as their means and deviations show; a deviation's error is at most 2/sqrt(N) of it.
    lengths = [np.sort(np.linalg.norm(sample, axis=1)) for sample in (u, theirs)]
    np.testing.assert_allclose(lengths[0].mean(), lengths[1].mean(), atol=DEVIATIONS * lengths[1].std() * (2 / N) ** 0.5)
    np.testing.assert_allclose(lengths[0].std(), lengths[1].std(), rtol=DEVIATIONS * 2 / N**0.5)
