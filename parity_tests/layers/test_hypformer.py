"""Hypformer's own layers at their bounds: where features are lifted by another formula, where logits end, where powers underflow."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from mpmath import mpf, sinh, sqrt, workdps

from parity_tests import draws
from parity_tests.tolerances import relative_error
from port_jax.graphs import Graph
from port_jax.layers.hypformer import ClassPoints, degree_weights, focused, lifted_features
from port_jax.manifolds import Lorentz, PoincareBall
from reference_torch.layers.hypformer import Space

K = 1.75
LENGTHS = np.array([0.0, 1e-3, 0.4, 0.999, 1.001, 1.5, 6.0, 11.0, 30.0])
"""Below 1 the code's bound holds, and beyond sqrt(101) its longest way."""


def rows(seed: int) -> np.ndarray:
    """Vectors of these lengths."""
    u = draws.rng(seed).normal(size=(len(LENGTHS), 3))
    return LENGTHS[:, None] * u / np.linalg.norm(u, axis=-1, keepdims=True)


@pytest.mark.parametrize("time", [1.0, 0.0])
def test_lifted_features_at_50_digits(time: float):
    """√k sinh(r) x/n with n² = max(|x|² - time², 1e-9): exp_0 without the time, which is another point with it."""
    x = rows(0)
    found = np.asarray(jax.jit(lambda x: lifted_features(Lorentz(K), x, time))(x))
    with workdps(50):
        want = []
        for row in x:
            exact = [mpf(a) for a in row]
            n = sqrt(max(sum(a * a for a in exact) - mpf(time) ** 2, mpf(10) ** -9))
            space = [sqrt(mpf(K)) * sinh(min(n, mpf(10)) / sqrt(mpf(K))) * a / n for a in exact]
            want.append([sqrt(mpf(K) + sum(a * a for a in space)), *space])
    exact = np.array(want, float)
    assert max(relative_error(a, b) for a, b in zip(found, exact, strict=True)) < 1e-12
    with pytest.raises(ValueError, match="lifted_features needs a hyperboloid"):
        lifted_features(PoincareBall(1.0), x)


def test_gradients_of_lifted_features_are_the_originals():
    """Also below the bound, where a part of 1e-8 of them passes, and at 0, twice."""
    x, weights = rows(1), draws.rng(2).normal(size=(len(LENGTHS), 4))
    given = torch.tensor(x, requires_grad=True)
    (Space(K).double().exp_of(torch.cat([torch.ones(len(x), 1), given], -1)) * torch.tensor(weights)).sum().backward()
    found = jax.jit(jax.grad(lambda x: (lifted_features(Lorentz(K), x) * weights).sum()))(jnp.asarray(x))
    assert given.grad is not None
    for have, want in zip(np.asarray(found), given.grad.numpy(), strict=True):
        assert relative_error(have, want) < 1e-9
    again = jax.jit(jax.hessian(lambda x: (lifted_features(Lorentz(K), x) * weights[0]).sum()))(jnp.zeros(3))
    assert np.isfinite(again).all()


def test_logits_of_classes_and_their_bound():
    """2k + 2⟨x, c⟩ - b, with a product over k in the variant medium; in the others at most 0, with a gradient of 0 at the bound."""
    rng = draws.rng(3)
    x, c = (
        np.concatenate([np.sqrt(K + (s * s).sum(-1, keepdims=True)), s], -1) for s in (rng.normal(size=(5, 3)), rng.normal(size=(4, 3)))
    )
    bias = np.array([0.3, -40.0, 0.1, -0.2])  # the second logit is at the bound
    product = x[:, 1:] @ c[:, 1:].T - x[:, :1] @ c[:, :1].T
    want = {"plain": 2 * K + 2 * product - bias, "over k": 2 * K + 2 * product / K - bias}
    want["bounded"] = np.minimum(want["plain"], 0)
    layers = {"plain": ClassPoints(4), "over k": ClassPoints(4, over_k=True), "bounded": ClassPoints(4, bounded=True)}

    @jax.jit
    def computed(params: Any) -> Any:
        def of(params: Any, layer: Any) -> Any:
            return layer.apply({"params": params}, Lorentz(K), jnp.asarray(x))

        values = {name: of(params, layer) for name, layer in layers.items()}
        return values, jax.grad(lambda p: of(p, layers["bounded"]).sum())(params)

    values, slopes = computed({"cls": jnp.asarray(c), "bias": jnp.asarray(bias)})
    for name, exact in want.items():
        assert relative_error(values[name], exact) < 1e-13, name
    assert (want["bounded"][:, 1] == 0).all()
    assert not np.asarray(slopes["bias"])[1].any()
    assert np.asarray(slopes["bias"])[0] < 0


def test_logarithms_near_the_origin_are_right_where_the_originals_are_not():
    """The code divides by a length of 3e-5 or more: at 1e-6 from the origin its logarithm is 3e-8 long."""
    space = np.array([[6e-7, 0.0, 8e-7]])
    x = np.concatenate([np.sqrt(K + (space * space).sum(-1, keepdims=True)), space], -1)
    theirs = Space(K).double().log_of(torch.as_tensor(x)).detach().numpy()
    assert 2e-8 < np.linalg.norm(theirs) < 4e-8
    np.testing.assert_allclose(jax.jit(Lorentz(K).to_tangent0)(x), space, rtol=1e-9)


def test_focused_vectors_keep_their_length_where_powers_underflow():
    """φ(f) = |f| f^p/|f^p|. In float32 the square of (1e-6)^p is 0 from p = 4 on, and the code's quotient infinite or NaN."""
    f = np.array([[1e-6, 1e-6, 1e-6, 1e-6], [0.2, 1.4, 1e-6, 0.9]])
    found = jax.jit(lambda f: focused(f, 9.0))(f.astype(np.float32))
    power = (f / f.max(-1, keepdims=True)) ** 9
    want = np.linalg.norm(f, axis=-1, keepdims=True) * power / np.linalg.norm(power, axis=-1, keepdims=True)
    np.testing.assert_allclose(found, want, rtol=3e-6, atol=1e-12)
    assert np.isfinite(jax.jit(jax.grad(lambda f: focused(f, 9.0)[..., 0].sum()))(f.astype(np.float32))).all()


def test_weights_of_edges_count_what_nodes_receive():
    """1/sqrt(d_i d_j), repeated edges and loops counted as they are; 0 from a node that receives nothing."""
    graph = Graph.from_edges([0, 0, 1, 2, 2, 3], [1, 1, 2, 2, 1, 2], num_nodes=4)
    found = np.asarray(graph.to_user_order(degree_weights(graph, jnp.zeros(1))))
    degree = np.array([0, 3, 3, 0])
    want = [0 if not degree[s] else 1 / np.sqrt(degree[s] * degree[r]) for s, r in zip([0, 0, 1, 2, 2, 3], [1, 1, 2, 2, 1, 2], strict=True)]
    np.testing.assert_allclose(found, want, rtol=1e-6)
