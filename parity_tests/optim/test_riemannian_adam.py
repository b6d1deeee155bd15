"""riemannian_adam against geoopt's RiemannianAdam: the same points after 1, 10 and up to 1000 steps."""

from __future__ import annotations

import geoopt
import pytest

from parity_tests.optim.trajectories import compare_trajectories
from port_jax.optim import riemannian_adam

OPTIONS = {
    "plain": ({"lr": 3e-2}, 100),
    "amsgrad, weight decay, stabilize": (
        {"lr": 2e-2, "betas": (0.8, 0.95), "amsgrad": True, "weight_decay": 0.1, "stabilize": 3},
        1000,
    ),
    "amsgrad": ({"lr": 3e-2, "amsgrad": True}, 100),
    "weight decay": ({"lr": 3e-2, "weight_decay": 0.3, "eps": 1e-3}, 100),
    "stabilize": ({"lr": 3e-2, "betas": (0.5, 0.9), "stabilize": 7}, 100),
}


def ours(options):
    options = dict(options)
    b1, b2 = options.pop("betas", (0.9, 0.999))
    return dict(learning_rate=options.pop("lr"), b1=b1, b2=b2, **options)


@pytest.mark.parametrize("name", OPTIONS)
def test_trajectories_equal_geoopt(name: str):
    options, steps = OPTIONS[name]
    make = lambda manifolds: riemannian_adam(**ours(options), manifolds=manifolds)  # noqa: E731
    moments = {"exp_avg": "mu", "exp_avg_sq": "nu"} | ({"max_exp_avg_sq": "nu_max"} if "amsgrad" in options else {})
    wrong = compare_trajectories(geoopt.optim.RiemannianAdam, options, make, steps, moments)
    assert not wrong, "\n".join(wrong)
