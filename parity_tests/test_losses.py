"""Losses are torch's, with their gradients, also where a probability is 0 or 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from parity_tests import draws
from port_jax.losses import binary_cross_entropy, cross_entropy


def compare(ours, theirs, x: np.ndarray) -> None:
    """Value and gradient; some ten roundings of numbers up to 100."""
    value, gradient = jax.value_and_grad(ours)(jnp.asarray(x))
    at = torch.tensor(x, requires_grad=True)
    want = theirs(at)
    want.backward()
    np.testing.assert_allclose(value, want.item(), rtol=1e-13)
    assert at.grad is not None
    np.testing.assert_allclose(gradient, at.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_binary_cross_entropy(target: float):
    x = draws.rng(0).uniform(0.01, 0.99, (5, 3))
    theirs = lambda p: functional.binary_cross_entropy(p, torch.full_like(p, target))  # noqa: E731
    compare(lambda p: binary_cross_entropy(p, target), theirs, x)
    edge = np.array([0.0, 1.0, 1e-60])  # log is at least -100 on both sides
    np.testing.assert_allclose(binary_cross_entropy(jnp.asarray(edge), target), theirs(torch.tensor(edge)), rtol=1e-13)
    assert np.isfinite(jax.grad(lambda p: binary_cross_entropy(p, target))(jnp.asarray(edge))).all()


def test_cross_entropy():
    rng = draws.rng(1)
    logits, labels = 20 * rng.standard_normal((7, 4)), rng.integers(0, 4, 7)
    compare(lambda z: cross_entropy(z, jnp.asarray(labels)), lambda z: functional.cross_entropy(z, torch.tensor(labels)), logits)
