"""Decoders and the contrastive loss against geoopt and torch: values and gradients by random cotangents, points and curvature included."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from geoopt.layers.stereographic import Distance2StereographicHyperplanes

from parity_tests import draws
from port_jax.layers.decoders import Hyperplanes, fermi_dirac, info_nce
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall
from reference_torch.layers import decoders as theirs


def points(manifold, rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Points in general position, at distances up to about 2."""
    u = 0.5 * rng.normal(size=shape)
    wide = jnp.pad(u, [(0, 0)] * (len(shape) - 1) + [(1, 0)]) if isinstance(manifold, Lorentz) else u
    return np.asarray(jax.jit(manifold.expmap0)(wide))


def test_fermi_dirac_and_where_the_exponential_overflows():
    square = np.array([0.0, 0.3, 2.0, 7.5, 2000.0])
    for r, t in [(2.0, 1.0), (0.7, 0.2)]:
        np.testing.assert_allclose(fermi_dirac(square, r, t), theirs.fermi_dirac(torch.as_tensor(square), r, t), rtol=1e-14)
        np.testing.assert_allclose(fermi_dirac(square[:4], r, t), 1 / (np.exp((square[:4] - r) / t) + 1), rtol=1e-12)
    assert np.isfinite(jax.grad(fermi_dirac)(2000.0, 2.0, 0.01))


SPACES = {
    "ball": (PoincareBall(1.7), geoopt.Stereographic(torch.tensor(-1.7, dtype=torch.float64))),
    "hyperboloid": (Lorentz(0.6), geoopt.Lorentz(torch.tensor(0.6, dtype=torch.float64))),
}


@pytest.mark.parametrize(("ours", "original"), SPACES.values(), ids=SPACES)
def test_info_nce(ours, original):
    rng = draws.rng(0)
    anchors, positives, negatives = points(ours, rng, 6, 3), points(ours, rng, 6, 3), points(ours, rng, 6, 5, 3)
    arrays = [torch.tensor(a, requires_grad=True) for a in (anchors, positives, negatives)]
    cot = rng.normal(size=6)
    loss = theirs.info_nce(original, *arrays, temperature=0.4)
    grads = torch.autograd.grad((loss * torch.as_tensor(cot)).sum(), arrays)

    @jax.jit
    def along(points, others):
        """The losses, and their gradients and the others along the manifold."""
        value, back = jax.vjp(lambda *a: info_nce(ours, *a, temperature=0.4), *points)
        return value, *([ours.egrad2rgrad(x, u) for x, u in zip(points, grads)] for grads in (back(jnp.asarray(cot)), others))

    value, mine, other = along((anchors, positives, negatives), [g.numpy() for g in grads])
    np.testing.assert_allclose(value, loss.detach(), rtol=1e-12)
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)


def test_info_nce_is_minus_the_logarithm_of_a_share():
    """-log(exp(-d(a, p) / T) / sum of the same over p and the negatives), arXiv 1807.03748, equation 4, with distances of flat space."""
    rng = draws.rng(2)
    a, p, n = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), rng.normal(size=(6, 5, 3))
    near, far = (np.exp(-np.linalg.norm(x, axis=-1) / 0.4) for x in (a - p, a[:, None] - n))
    have = jax.jit(lambda *points: info_nce(Euclidean(1), *points, temperature=0.4))(a, p, n)
    np.testing.assert_allclose(have, -np.log(near / (near + far.sum(1))), rtol=1e-12)


def test_hyperplanes_are_those_of_geoopt():
    rng = draws.rng(1)
    original = geoopt.Stereographic(-0.7, learnable=True)
    layer = Distance2StereographicHyperplanes(4, 3, ball=original).double()
    c = -original.k.item()
    planes, x = points(PoincareBall(0.7), rng, 3, 4), points(PoincareBall(0.7), rng, 9, 4)
    layer.points.data = torch.tensor(planes)
    h = torch.tensor(x, requires_grad=True)
    out = layer(h)
    cot = rng.normal(size=(9, 3))
    grads = torch.autograd.grad((out * torch.as_tensor(cot)).sum(), [h, layer.points, original.k])

    @jax.jit
    def pulled(*at):
        def ours(h, planes, c):
            return Hyperplanes(3).apply({"params": {"points": planes}}, PoincareBall(c), h)

        value, back = jax.vjp(ours, *at)
        return value, back(jnp.asarray(cot))

    value, mine = pulled(x, planes, c)
    # geoopt's arsinh of a negative number x is log(x + sqrt(1 + x^2)): it cancels
    np.testing.assert_allclose(value, out.detach(), rtol=0, atol=1e-11)
    for a, b in zip((*mine[:2], -mine[2]), grads):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)
