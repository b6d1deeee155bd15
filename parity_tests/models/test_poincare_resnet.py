"""Poincaré ResNet in Flax against the reference: outputs, gradients, steps, files both ways, and what the authors' code computed."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity_tests import slow
from parity_tests.models.cases_poincare_resnet import CONFIGS, case, config_of, images, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, check_steps, converted, trained
from parity_tests.models.planted_errors import hurried
from parity_tests.weights.helpers import assert_deep_equal, run
from port_jax.models import PoincareResNet
from weights.checkpoint import load
from weights.errors import Unmatched, Usage
from weights.mapping.entries import flatten
from weights.models.poincare_resnet import POINCARE_RESNET
from weights.proof.authors import of_authors
from weights.proof.verify import failed, verify
from weights.proof.witness import Witness

FIXTURE = Path(__file__).parents[3] / "shared" / "fixtures" / "poincare_resnet"


def adam(module: Any) -> torch.optim.Optimizer:
    """As the authors make it: of all parameters, those of fixed curvatures included."""
    return geoopt.optim.RiemannianAdam(module.parameters(), lr=0.003, weight_decay=0.01)


def descent(module: Any) -> torch.optim.Optimizer:
    return geoopt.optim.RiemannianSGD(module.parameters(), lr=0.003, momentum=0.9, weight_decay=0.01)


@pytest.mark.parametrize("name", slow.all_but({"smallest"}, CONFIGS))
def test_outputs_gradients_and_the_way_back(name: str, tmp_path: Path):
    """In training and in evaluation the same. A trained curvature has the authors' derivative, about 1e15, beside which only the gradients
    of other curvatures of its kind say something: they are compared one by one."""
    module, config = case(name)
    ckpt = converted(module.eval(), config, tmp_path)
    assert ckpt.arch == "poincare_resnet"
    check_parity(module, ckpt, theirs, ours, single=False)
    check_round_trip(ckpt, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(theirs(module.train(), torch.float64), theirs(module.eval(), torch.float64), strict=True))
    if config["learnable"]:
        module.zero_grad()
        sum(out.sum() for out in theirs(module, torch.float64)).backward()
        have = flatten(jax.jit(jax.grad(lambda v: sum(out.sum() for out in ours(ckpt.model, v, jnp.float64))))(ckpt.variables))
        named = dict(module.named_parameters())
        sizes = []
        for entry in ckpt.entries:
            if entry.role == "parameter":
                want = entry.layout.forward(named[entry.key].grad.numpy())
                assert np.abs(np.asarray(have[entry.path]) - want).max() <= 1e-9 * np.abs(want).max(), entry.key
                sizes += [abs(want.item())] if entry.key.endswith("isp_c") else []
        assert max(sizes) > 1e13
        assert min(sizes) < 1


STEPS = [("smallest", adam), ("smallest", descent), ("softplus, other order", descent), ("Fréchet means", adam), ("trained", adam),
         ("trained, by autograd", adam), ("three groups", descent)]  # fmt: skip


@pytest.mark.parametrize(("name", "optimizer"), slow.all_but({STEPS[0]}, STEPS))
def test_the_optimizers_go_on(name: str, optimizer: Any, tmp_path: Path):
    module, config = case(name)
    drift = 1e-8 if config["bn_midpoint"] else 1e-6  # means are known to 1e-12, and Adam divides by small gradients
    check_steps(module, optimizer(module), config, tmp_path, theirs, ours, drift=drift)
    ckpt = load(tmp_path / "trained.pth", config=config)
    assert ckpt.plan is not None
    assert ckpt.plan.table == ("RiemannianAdam" if optimizer is adam else "RiemannianSGD")
    ckpt.export(tmp_path / "back.pth")
    both = [torch.load(tmp_path / name, weights_only=True) for name in ("trained.pth", "back.pth")]
    assert_deep_equal(*both)
