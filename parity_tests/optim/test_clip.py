"""clip_grad_norm and clip_grad_value against torch.nn.utils."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws
from port_jax.optim.clip import clip_grad_norm, clip_grad_value
from reference_torch.optim.clip import clip_grad_norm_, clip_grad_value_, clipped

SHAPES = {"a": (4, 3), "b": {"c": (5,), "d": ()}}


def gradients(scale, dtype=np.float64, seed=0):
    rng = draws.rng(seed)
    return jax.tree.map(lambda s: np.asarray(scale * rng.normal(size=s), dtype), SHAPES, is_leaf=lambda x: isinstance(x, tuple))


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("scale", [3e-3, 1.0, 1e3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_norm_is_clipped_as_in_torch(norm_type, scale, dtype):
    grads = gradients(scale, dtype)
    for max_norm in (2e-3, 1.0, 50.0):
        tx = clip_grad_norm(max_norm, norm_type)
        found, _ = tx.update(grads, tx.init(grads))
        expected = clipped(clip_grad_norm_, jax.tree.leaves(grads), max_norm, norm_type)
        for x, y in zip(jax.tree.leaves(found), expected):
            assert x.dtype == dtype
            np.testing.assert_allclose(x, y, rtol=16 * np.finfo(dtype).eps)


def test_the_epsilon_is_that_of_torch():
    """Without it the result would be 3e-4 off at this norm."""
    grads = {"a": np.array([3e-3, 0.0])}
    found, _ = clip_grad_norm(1e-3).update(grads, ())
    assert float(found["a"][0]) == pytest.approx(1e-3 / (1 + 1e-6 / 3e-3), rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_goes_where_torch_sends_it(bad):
    grads = gradients(1.0)
    grads["a"][1, 2] = bad
    found, _ = clip_grad_norm(0.5).update(grads, ())
    for x, y in zip(jax.tree.leaves(found), clipped(clip_grad_norm_, jax.tree.leaves(grads), 0.5)):
        np.testing.assert_array_equal(np.isfinite(x), np.isfinite(y))
    found, _ = clip_grad_value(0.5).update(grads, ())
    for x, y in zip(jax.tree.leaves(found), clipped(clip_grad_value_, jax.tree.leaves(grads), 0.5)):
        np.testing.assert_array_equal(x, y)


def test_a_gradient_of_zero_or_none_stays():
    found, _ = jax.jit(clip_grad_norm(1.0).update)({"a": jnp.zeros(3), "b": None}, ())
    assert found["b"] is None
    np.testing.assert_array_equal(found["a"], np.zeros(3))


def test_squares_that_overflow_do_not():
    found, _ = clip_grad_norm(1.0).update({"a": np.full(4, 1e30, np.float32)}, ())
    np.testing.assert_allclose(found["a"], 0.5, rtol=1e-6)


@pytest.mark.parametrize("make", [lambda: clip_grad_norm(-1.0), lambda: clip_grad_norm(1.0, 0), lambda: clip_grad_value(-1)])
def test_wrong_bounds_are_refused(make):
    with pytest.raises(ValueError, match="has to be"):
        make()
