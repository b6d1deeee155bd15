"""HGCN's aggregation by edges against the formula over all pairs of nodes, and DropConnect by its law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.models.graph_models import NODES, TORCH_GRAPH, dense_adjacency
from parity_tests.tolerances import DEVIATIONS
from port_jax.layers.hgcn import HgcnLinear, exp0, space
from port_jax.manifolds import Euclidean
from reference_torch.layers.hgcn import HypAggregation
from reference_torch.layers.hgcn_spaces import SPACES

C = torch.tensor([0.75], dtype=torch.float64)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("name", ["PoincareBall", "Hyperboloid", "Euclidean"])
def test_attention_by_edges_is_the_dense_formula(name: str, local: bool):
    """[u_i, u_j] of all pairs through one linear map and a sigmoid, times the adjacency; locally the sum of A_ij log_i(j) over all j."""
    draws.seed_torch(0)
    space, width = SPACES[name], 4
    u = 0.5 * torch.randn(NODES, width, dtype=torch.float64)
    x = space.exp0(u, C)
    module = HypAggregation(name, width, C, use_att=True, local_agg=local).double()
    assert module.att is not None
    u = space.log0(x, C)
    left, right = (v.expand(NODES, NODES, width) for v in (u[:, None], u[None]))
    weight = dense_adjacency() * torch.sigmoid(module.att.linear(torch.cat([left, right], -1))[..., 0])
    if not local:
        expected = space.exp0(weight @ u, C)
    else:
        here, there = (p.expand(NODES, NODES, width).reshape(-1, width) for p in (x[:, None], x[None]))
        logs = space.log(here, there, C).view(NODES, NODES, width)
        total = (weight[..., None] * logs).sum(1)
        expected = space.exp(x, total, C) if name == "Hyperboloid" else space.exp(total, x, C)
    torch.testing.assert_close(module(x, TORCH_GRAPH), expected, rtol=1e-10, atol=1e-10)


def test_connections_are_dropped_at_the_rate_and_scaled_back():
    layer = HgcnLinear(7, use_bias=False, dropout=0.3)
    x = jnp.eye(6)
    variables = layer.init(draws.key(0), Euclidean(), x)
    kernel = variables["params"]["kernel"]
    keys = jax.random.split(draws.key(1), 400)
    drawn = jax.jit(jax.vmap(lambda key: layer.apply(variables, Euclidean(), x, False, rngs={"dropout": key})))(keys)
    kept = np.asarray(drawn) != 0
    deviation = (0.3 * 0.7 / kept.size) ** 0.5
    assert abs(kept.mean() - 0.7) < DEVIATIONS * deviation
    np.testing.assert_allclose(np.asarray(drawn)[kept], np.broadcast_to(kernel / 0.7, kept.shape)[kept], rtol=1e-6)
    np.testing.assert_array_equal(layer.apply(variables, Euclidean(), x, True), kernel)


def test_bias_far_from_the_origin_keeps_its_digits_in_float32():
    """At x_0 = 2e3 the Minkowski norm of the transported bias has lost 5e-3 of the result; the boost has lost nothing."""
    rng = draws.rng(0)
    u = rng.normal(size=(40, 5))
    u *= 8.3 / np.linalg.norm(u, axis=1, keepdims=True)
    b = 0.3 * rng.normal(size=5)
    theirs = SPACES["Hyperboloid"]

    def original(dtype: torch.dtype) -> np.ndarray:
        c = torch.tensor([1.0], dtype=dtype)
        tangent, bias = (torch.nn.functional.pad(torch.as_tensor(v).to(dtype), (1, 0)) for v in (u, b[None]))
        return theirs.add(theirs.exp0(tangent, c), theirs.exp0(bias, c), c).double().numpy()

    truth = original(torch.float64)
    manifold = space("Hyperboloid", 1.0)
    have = jax.jit(lambda u, b: manifold.mobius_add(exp0(manifold, u), exp0(manifold, b)))(u.astype(np.float32), b.astype(np.float32))
    scale = np.abs(truth).max(1, keepdims=True)
    assert (np.abs(original(torch.float32) - truth) / scale).max() > 1e-3
    # exp_0 multiplies the rounding of u by |u|, 8.3
    assert (np.abs(have - truth) / scale).max() < 2e-6
    x, y = (jax.jit(lambda v: exp0(manifold, v))(v.astype(np.float32)) for v in (u, b))
    have, truth = (jax.jit(manifold.mobius_add)(*(a.astype(dtype) for a in (x, y))) for dtype in (np.float32, np.float64))
    assert (np.abs(have - truth) / np.abs(truth).max(1, keepdims=True)).max() < 3e-7


def test_points_near_the_origin_keep_their_length_in_float32():
    """HGCN keeps arcosh's argument above 1 + 1e-7: nothing but the origin is closer to it than 4.9e-4. Here 1e-5 stays 1e-5."""
    u = np.array([[1e-5, 0.0, 0.0]])
    manifold, theirs = space("Hyperboloid", 1.0), SPACES["Hyperboloid"]
    have = jax.jit(lambda u: manifold.to_tangent0(exp0(manifold, u)))(u.astype(np.float32))
    np.testing.assert_allclose(have, u, rtol=1e-6)
    c = torch.ones(1)
    original = theirs.log0(theirs.exp0(torch.nn.functional.pad(torch.as_tensor(u).float(), (1, 0)), c), c)
    np.testing.assert_allclose(float(original.norm()), 4.88e-4, rtol=1e-2)
