"""HyboNet's attention by edges against the formula over all pairs of nodes, and the length at which inputs are cut."""

import jax
import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.models.graph_models import NODES, TORCH_GRAPH, dense_adjacency
from port_jax.layers import hybonet as ported
from reference_torch.layers.hybonet import LorentzAggregation, lift

FLIP = torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64)


def test_attention_by_edges_is_the_dense_formula():
    """sigmoid((2 + 2 Q J K^T) / scale + bias) times the adjacency, then the centroid."""
    draws.seed_torch(0)
    module = LorentzAggregation(4, use_att=True).double().eval()
    module.bias.data.fill_(0.4)
    x = lift(0.6 * torch.randn(NODES, 3, dtype=torch.float64))
    query, key = module.query_linear(x), module.key_linear(x)
    weight = dense_adjacency() * torch.sigmoid((2 + 2 * (query * FLIP) @ key.T) / module.scale + module.bias)
    s = weight @ x
    norm = ((s * FLIP) * s).sum(-1, keepdim=True).abs().clamp_min(1e-8).sqrt()
    torch.testing.assert_close(module(x, TORCH_GRAPH), s / norm, rtol=1e-12, atol=1e-12)


def test_long_features_are_cut_at_ten():
    """Without the cut features of norm 365, as airport has them, would leave float32."""
    x = np.array([[3.0, 4.0], [300.0, -200.0], [0.0, 0.0], [1e-12, 0.0]])
    lifted = jax.jit(ported.lift)
    have = np.asarray(lifted(x))
    np.testing.assert_allclose(have, lift(torch.as_tensor(x)).numpy(), rtol=1e-13)
    np.testing.assert_allclose(np.arccosh(have[1, 0]), 10, rtol=1e-12)
    low = np.asarray(lifted(x.astype(np.float32)))
    assert np.isfinite(low).all()
    np.testing.assert_allclose(low, have, rtol=2e-5)


@pytest.mark.parametrize("act", [None, "relu"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_linear_map_of_lifted_points(act: str | None, dropout: float):
    """Values and gradients are those of the map of the points, with what acts on their coordinates before; without it no array of points is
    made."""
    rng = draws.rng(3)
    x, cotangent = np.concatenate([rng.normal(size=(6, 5)), 40 * rng.normal(size=(2, 5)), np.zeros((1, 5))]), rng.normal(size=(9, 4))
    layer = ported.LorentzLinear(4, dropout=dropout, act=act)
    params = layer.init(draws.key(4), ported.lift(x))["params"]
    params = {**params, "bias": rng.normal(size=4)}

    def loss(params, x, given=ported.lifted):
        y = layer.apply({"params": params}, given(x), deterministic=False, rngs={"dropout": draws.key(5)})
        return (y * cotangent).sum()

    both = [jax.tree.leaves(jax.value_and_grad(loss, (0, 1))(params, x, given)) for given in (ported.lift, ported.lifted)]
    for a, b in zip(*both, strict=True):
        assert np.any(a != 0)
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * np.abs(a).max())
    made = str(jax.make_jaxpr(jax.grad(loss))(params, x))
    assert ("[9,6]" in made) == (act is not None or dropout > 0)
