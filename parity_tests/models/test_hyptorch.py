"""Heads of hyperbolic image embeddings: fixed and trained c, a trained point, the scaled gradient, a backbone that is
carried."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.models.cases_hyptorch import CLASSES, CONFIGS, DIM, X, module_of, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, converted
from port_jax.models.hyptorch import HypTorch as Ours
from weights.errors import ConversionError


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path):
    module = module_of(name)
    ckpt = converted(module, {"c": 0.6}, tmp_path, wrap=lambda state: {"params": dict(state)})
    assert ckpt.arch == "hyptorch"
    check_parity(module, ckpt, theirs, ours, radius=0.999, single=name == "trained")
    check_round_trip(ckpt, tmp_path)


def test_gradient_into_the_features_is_scaled_by_the_metric(tmp_path):
    module = module_of("fixed")
    ckpt = converted(module, {"c": 0.6}, tmp_path)
    x = torch.as_tensor(X).requires_grad_()
    cot = draws.rng(1).normal(size=(len(X), CLASSES))
    (module(x) * torch.as_tensor(cot)).sum().backward()
    plain = Ours(DIM, CLASSES, 0.6, riemannian=False)

    def pulled(model):
        return jax.grad(lambda x: (model.apply(ckpt.variables, x) * cot).sum())(jnp.asarray(X))

    grad, other = jax.jit(lambda: (pulled(ckpt.model), pulled(plain)))()
    np.testing.assert_allclose(grad, x.grad.numpy(), rtol=0, atol=1e-10 * float(x.grad.abs().max()))
    assert np.abs(np.asarray(other - grad)).max() > 0.1 * np.abs(np.asarray(grad)).max()


def test_the_backbone_is_carried_verbatim(tmp_path):
    module = module_of("fixed")
    backbone = torch.nn.Sequential(torch.nn.Linear(7, DIM), torch.nn.BatchNorm1d(DIM))
    ckpt = converted(module, {"c": 0.6}, tmp_path, wrap=lambda s: {"params": {**dict(s), **backbone.state_dict(prefix="encoder.")}})
    assert np.array_equal(ckpt.constants["encoder.0.weight"], backbone[0].weight.detach().numpy())
    check_round_trip(ckpt, tmp_path)


def test_a_fixed_c_has_to_be_given(tmp_path):
    with pytest.raises(ConversionError, match="curvature"):
        converted(module_of("fixed"), None, tmp_path)
    assert converted(module_of("fixed"), None, tmp_path, curvature=0.6).model.c == 0.6
