"""The ratios of trigonometry and their derivatives in closed form, against mpmath."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from parity_tests import draws, slow
from port_jax.manifolds import trig
from port_jax.manifolds.signed import Curvature


def ratio(negative: Callable, positive: Callable) -> Callable:
    """f(sqrt|s|)/sqrt|s| with f by the sign of s."""
    return lambda s: mp.mpf(1) if s == 0 else (negative if s < 0 else positive)(mp.sqrt(abs(s))) / mp.sqrt(abs(s))


def hyperbolic(ratio: Callable) -> Callable:
    """The ratio of an s that is known to be at most 0."""
    return lambda s: ratio(Curvature(s, spherical=False))


CASES = {
    "tan": (trig.tan_ratio, {}, ratio(mp.tanh, mp.tan), -60, 2.2),
    "tanh": (hyperbolic(trig.tan_ratio), {}, ratio(mp.tanh, mp.tan), -60, 0),
    "artan": (trig.artan_ratio, {}, ratio(mp.atanh, mp.atan), -0.99, 50),
    "artanh": (hyperbolic(trig.artan_ratio), {}, ratio(mp.atanh, mp.atan), -0.99, 0),
    "sin": (trig.sin_ratio, {}, ratio(mp.sinh, mp.sin), -60, 20),
    "cos": (trig.cos_k, {}, lambda s: mp.cosh(mp.sqrt(-s)) if s < 0 else mp.cos(mp.sqrt(s)), -60, 20),
    "arsin": (trig.arsin_ratio, {}, ratio(mp.asinh, mp.asin), -1e3, 0.99),
    "arsinh": (trig.arsinh_ratio, {}, ratio(mp.asinh, mp.asin), -1e3, 0),
}
GATES = (2, 48, 1500)
"""Errors over conditioning in eps, of the value and two derivatives. Each derivative is a difference over 2s and begins where |s| leaves
the series: at 0.1 that multiplies roundings by 30 or less, at each of two orders."""


@pytest.mark.parametrize("dtype", slow.all_but({np.float64}, [np.float32, np.float64]))
@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name: str, dtype: type):
    function, options, truth, low, high = CASES[name]
    rng = draws.rng(0)
    edge = [s for s in (-1.0, -0.25, -0.1, -1e-30, 0.0, 1e-30, 0.1, 0.25, 1.0) if low <= s <= high]
    s = np.concatenate([rng.uniform(max(low, -0.3), min(high, 0.3), 40), rng.uniform(low, high, 40), edge]).astype(dtype)
    found: Callable = lambda s: function(s, **options)  # noqa: E731
    with mp.workdps(60):
        exact = [[mp.diff(truth, mp.mpf(float(x)), n, h=mp.mpf(10) ** -15) for x in s] for n in range(4)]
        for order, gate in enumerate(GATES):
            values = np.asarray(jax.jit(jax.vmap(found))(jnp.asarray(s)), np.float64)
            t, slope = (np.array([float(v) for v in exact[n]]) for n in (order, order + 1))
            error = np.abs(values - t) / (np.abs(t) + np.abs(slope * s)) / np.finfo(dtype).eps
            assert error.max() <= gate, (order, s[error.argmax()], error.max())
            found = jax.grad(found)
