"""`port_jax.layers.activations` against torch, values and derivatives, the kink included."""

import jax
import numpy as np
import pytest
import torch

from port_jax.layers.activations import ACTIVATIONS, leaky_relu
from reference_torch.layers.hgat import ACTIVATIONS as TORCH


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_derivatives(name: str):
    x = np.array([-2.5, -1e-8, 0.0, 1e-8, 0.7, 3.0])
    theirs = torch.tensor(x, requires_grad=True)
    out = TORCH[name](theirs)
    (slope,) = torch.autograd.grad(out.sum(), theirs)
    np.testing.assert_allclose(ACTIVATIONS[name](x), out.detach(), rtol=1e-14, atol=1e-17)
    np.testing.assert_allclose(jax.vmap(jax.grad(ACTIVATIONS[name]))(x), slope, rtol=1e-12)  # 1 - tanh^2 cancels


def test_derivative_at_zero():
    assert jax.grad(lambda x: leaky_relu(x, 0.2))(0.0) == 0.2
    assert jax.grad(lambda x: jax.nn.leaky_relu(x, 0.2))(0.0) == 1.0
