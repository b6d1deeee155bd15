"""riemannian_sgd against geoopt's RiemannianSGD: the same points after 1, 10 and up to 1000 steps."""

from __future__ import annotations

import geoopt
import pytest

from parity_tests.optim.trajectories import compare_trajectories
from port_jax.optim import riemannian_sgd

OPTIONS = {
    "plain": ({"lr": 1e-2}, 100),
    "momentum": ({"lr": 1e-3, "momentum": 0.9}, 100),
    "dampening, weight decay, stabilize": (
        {"lr": 1e-2, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1, "stabilize": 4},
        100,
    ),
    "nesterov, weight decay": ({"lr": 5e-3, "momentum": 0.7, "nesterov": True, "weight_decay": 0.05}, 1000),
    "weight decay without momentum, stabilize": ({"lr": 1e-2, "weight_decay": 0.2, "stabilize": 1}, 100),
}


def ours(options):
    options = dict(options)
    return dict(learning_rate=options.pop("lr"), **options)


@pytest.mark.parametrize("name", OPTIONS)
def test_trajectories_equal_geoopt(name: str):
    options, steps = OPTIONS[name]
    make = lambda manifolds: riemannian_sgd(**ours(options), manifolds=manifolds)  # noqa: E731
    moments = {"momentum_buffer": "momentum"} if "momentum" in options else {}
    wrong = compare_trajectories(geoopt.optim.RiemannianSGD, options, make, steps, moments)
    assert not wrong, "\n".join(wrong)
