"""The searches along a line against those that geoopt's line search calls: the same step sizes, failures and numbers of trials."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws
from port_jax.optim import step_sizes
from reference_torch.optim.step_sizes import armijo_backtracking, strong_wolfe_line_search


def test_searches_equal_scipy():
    """On curves of one variable: the same step sizes, failures and numbers of trials, through all branches."""
    rng = draws.rng(5)
    n = 400
    slope, bend, quartic = -rng.exponential(1, n), rng.normal(0.5, 1, n), rng.exponential(0.1, n)
    wave, speed = rng.normal(0.5, 1, n), np.exp(rng.normal(1, 2, n))
    old, has_old = rng.normal(1, 1, n), rng.random(n) < 0.6
    old[:20], has_old[:20] = 0, True  # phi has not changed: a first trial of 0
    bend[20:30], quartic[20:30], wave[20:30] = 0, 0, 0  # falls for ever: ten doublings
    rows = (slope, bend, wave, speed, quartic, old, has_old)

    def curve(row: Any, a: Any, xp: Any) -> tuple:
        s, b, w, v, q = row[:5]
        phi = s * a + b * a**2 + q * a**4 + w * (1 - xp.cos(v * a))
        return phi, s + 2 * b * a + 4 * q * a**3 + w * v * xp.sin(v * a)

    def ours(search: Any, **params: Any) -> Any:
        def one(row: Any) -> Any:
            line = step_sizes.Line(
                lambda a: curve(row, a, jnp)[0],
                lambda a: curve(row, a, jnp),
                *curve(row, jnp.zeros([]), jnp),
                old_value=row[5],
                has_old=row[6],
            )
            return search(line, **params)

        return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(jax.tree.map(jnp.asarray, rows)))

    backtracking: Any = armijo_backtracking
    for reference, search, params in (
        (backtracking, step_sizes.armijo, {}),
        (backtracking, step_sizes.armijo, {"c1": 0.4, "amin": 0.02, "amax": 3.0}),
        (strong_wolfe_line_search, step_sizes.strong_wolfe, {}),
        (strong_wolfe_line_search, step_sizes.strong_wolfe, {"c1": 0.05, "c2": 0.06, "amax": 4.0}),
    ):
        result, trials, wrong = ours(search, **params), np.zeros(n, int), []
        for i, row in enumerate(zip(*rows, strict=True)):

            def phi(a: float, i: int = i, row: Any = row) -> float:
                trials[i] += 1  # noqa: B023
                return float(curve(row, a, np)[0])

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value, derivative = curve(row, 0.0, np)
                known = {"phi0": float(value), "derphi0": float(derivative), "old_phi0": row[5] if row[6] else None}
                a = reference(phi, lambda a, row=row: float(curve(row, a, np)[1]), **known, **params)
            # The minimum of a cubic near a double root is good to the root of the rounding of its coefficients.
            if bool(result.found[i]) != (a is not None) or abs(result.step_size[i] - (a or 0)) > 1e-7 * (a or 0):
                wrong.append(f"curve {i}: {result.step_size[i]}, scipy {a}")
            if result.trials[i] != trials[i]:
                wrong.append(f"curve {i}: {result.trials[i]} trials, scipy {trials[i]}")
        assert not wrong, f"{search.__name__} {params}: {wrong[:3]} ... {len(wrong)} of {n}"
        assert len(np.unique(trials)) > 5, "not all branches were reached"


@pytest.mark.parametrize("search", [step_sizes.armijo, step_sizes.strong_wolfe])
def test_a_value_of_minus_infinity_is_no_descent(search: Any):
    def both(a: Any) -> tuple:
        return jnp.where(a > 0.3, -jnp.inf, -a), jnp.where(a > 0.3, jnp.nan, jnp.where(a > 0.1, 0.5, -1.0))

    number = jnp.zeros([])
    found = search(step_sizes.Line(lambda a: both(a)[0], both, number, number - 1, number, jnp.array(False)))
    assert found.found
    assert 0 < found.step_size <= 0.3
