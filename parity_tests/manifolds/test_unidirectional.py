"""Signed distances to hyperplanes that a direction and a distance from the origin give, against geoopt's distance to a hyperplane."""

from __future__ import annotations

import geoopt
import numpy as np
import torch

from parity_tests import draws
from port_jax.manifolds import Lorentz
from port_jax.manifolds.hyperboloid import unidirectional as of_hyperboloid
from port_jax.manifolds.stereographic import unidirectional as of_ball

C = 0.7


def geoopts(x: np.ndarray, normal: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Distances of points [n, d] of the ball to planes with these normals [d, m] at these distances [m] from the origin."""
    ball = geoopt.PoincareBall(torch.tensor(C, dtype=torch.float64))
    unit = torch.tensor(normal / np.linalg.norm(normal, axis=0)).T
    p = ball.expmap0(unit * torch.tensor(distance)[:, None] / 2)  # exp_0(u) is at distance 2|u|
    return ball.dist2plane(torch.tensor(x)[:, None], p, torch.tensor(normal).T, signed=True).numpy()


def test_on_the_ball():
    rng = draws.rng(0)
    x, z, r = 0.3 * rng.standard_normal((6, 4)), rng.standard_normal((4, 3)), 0.4 * rng.standard_normal(3)
    want = 2 * np.linalg.norm(z, axis=0) * geoopts(x, z, 2 * r)
    np.testing.assert_allclose(of_ball.unidirectional(x, z, r, -C), want, rtol=1e-11)


def test_a_point_at_given_distances():
    """Its distance to each plane through the origin that is orthogonal to an axis."""
    v = draws.rng(1).standard_normal((6, 4))
    y = np.asarray(of_ball.at_distances(v, -C))
    np.testing.assert_allclose(geoopts(y, np.eye(4), np.zeros(4)), v, rtol=1e-11)


def test_on_the_hyperboloid():
    """|z| times the distance, with the points and the planes as the ball of curvature -1/k sees them."""
    rng, k = draws.rng(2), 1 / C
    space, z, a = rng.standard_normal((6, 4)), rng.standard_normal((4, 3)), rng.standard_normal(3)
    x = np.concatenate([np.sqrt(k + (space**2).sum(-1, keepdims=True)), space], -1)
    assert Lorentz(k).check_point_on_manifold(x)
    seen = np.sqrt(k) * space / (x[:, :1] + np.sqrt(k))
    want = np.linalg.norm(z, axis=0) * geoopts(seen, z, a)
    np.testing.assert_allclose(of_hyperboloid.unidirectional(x, z, a, k), want, rtol=1e-10)
