"""ReduceOnPlateau against torch's scheduler, on a metric that improves, stalls, worsens and is NaN once."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parity_tests import draws
from port_jax.optim.reduce_on_plateau import ReduceOnPlateau
from reference_torch.optim.reduce_on_plateau import rates as torch_rates

RNG = draws.stream(3)
METRICS = np.cumsum(RNG.normal(size=120)) * np.repeat(RNG.uniform(0, 1, 12) > 0.4, 10) + RNG.normal(size=120) * 1e-3
METRICS[37] = np.nan
OPTIONS = [
    {"mode": mode, "threshold_mode": threshold_mode, "cooldown": cooldown, **rest}
    for mode, threshold_mode, (cooldown, rest) in itertools.product(
        ("min", "max"),
        ("rel", "abs"),
        [
            (0, {"patience": 2}),
            (3, {"patience": 1, "factor": 0.6, "threshold": 0.05}),
            (1, {"patience": 0, "eps": 0.01}),
        ],
    )
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: f"{o['mode']}-{o['threshold_mode']}-{o['patience']}")
def test_rates_are_those_of_torch(options):
    schedule = ReduceOnPlateau(0.3, min_lr=1e-3, **options)
    _, rates = jax.lax.scan(
        lambda state, metric: (schedule.update(state, value=metric), schedule(state)),
        schedule.init(),
        jnp.asarray(METRICS),
    )
    expected = torch_rates(METRICS, 0.3, min_lr=1e-3, **options)
    assert len(set(expected)) > 2
    np.testing.assert_allclose(rates, expected, rtol=1e-14)


def test_an_optimizer_takes_it_as_its_rate_and_stays_without_a_metric():
    tx = optax.inject_hyperparams(optax.sgd)(ReduceOnPlateau(0.5, patience=0, factor=0.1))
    params = jnp.zeros(2)
    state = tx.init(params)
    moves = []
    for value in (1.0, None, 2.0, None, 3.0, 0.1):
        update, state = tx.update(jnp.ones(2), state, params, value=value)
        moves.append(-float(update[0]))
    np.testing.assert_allclose(moves, [0.5, 0.5, 0.5, 0.05, 0.05, 0.005], rtol=1e-12)


@pytest.mark.parametrize("wrong", [{"factor": 1.0}, {"mode": "mean"}, {"threshold_mode": "none"}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ReduceOnPlateau(0.1, **wrong)
