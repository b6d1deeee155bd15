"""HyperbolicCV's residual networks in Flax against the reference: outputs, gradients, steps, running statistics, files, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from mpmath import asinh, cosh, mpf, sinh, sqrt, tanh, workdps

from parity_tests import draws, slow
from parity_tests.models import paper_hcnn
from parity_tests.models.cases_hcnn import CONFIGS, case, images, optimizer_of, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, check_steps, converted
from parity_tests.oracle.networks import exactly
from parity_tests.oracle.stereographic import dot, times
from parity_tests.tolerances import relative_error
from port_jax.models import HCNN
from weights.mapping.entries import flatten
from weights.proof.flax_run import QUICK as QUICK_PROGRAMS

QUICK = {"lorentz", "to poincare"}


@pytest.mark.parametrize("name", slow.all_but(QUICK, CONFIGS))
def test_outputs_gradients_and_the_way_back(name: str, tmp_path: Path):
    module, config = case(name)
    ckpt = converted(module, config, tmp_path)
    assert ckpt.arch == "hcnn"
    check_parity(module, ckpt, theirs, ours)
    check_round_trip(ckpt, tmp_path)


@pytest.mark.parametrize("name", slow.all_but(QUICK, CONFIGS))
def test_the_optimizers_go_on(name: str, tmp_path: Path):
    module, config = case(name)
    check_steps(module, optimizer_of(module), config, tmp_path, theirs, ours)


@pytest.mark.parametrize("name", slow.all_but(QUICK, CONFIGS))
def test_running_statistics_in_training(name: str, tmp_path: Path):
    """Two batches: what training writes, and the logits that it gives."""
    module, config = case(name)
    ckpt = converted(module, config, tmp_path)
    variables = ckpt.variables
    train = jax.jit(lambda v, x: ckpt.model.apply(v, x, train=True, mutable=["batch_stats"]), compiler_options=QUICK_PROGRAMS)
    for x in (images(), images()[::-1] * 0.8):
        want = module.train()(torch.as_tensor(x.copy()))
        have, new = train(variables, jnp.asarray(x))
        assert relative_error(have, want.detach()) < 1e-11
        variables = {**variables, **new}
    flat, buffers = flatten(variables), dict(module.named_buffers())
    for entry in ckpt.entries:
        if entry.role == "buffer":
            assert relative_error(flat[str(entry.path)], buffers[entry.key]) < 1e-11, entry.key


def test_the_papers_formulas_at_50_digits(tmp_path: Path):
    """All layers of the network on a hyperboloid, in evaluation and in training, in both packages."""
    module, config = case("lorentz")
    ckpt = converted(module, config, tmp_path)
    with workdps(50):
        of, pictures = exactly({key: tensor.numpy() for key, tensor in module.state_dict().items()}), exactly(images())
        spaces = [[[list(pixel) for pixel in row] for row in image] for image in pictures]
        want = [np.array(paper_hcnn.logits(spaces, of, train), float) for train in (False, True)]
    for found in (theirs(module, torch.float64), forward(ckpt)):
        for have, exact in zip(found[1:], want, strict=True):
            assert relative_error(np.asarray(have.detach() if isinstance(have, torch.Tensor) else have), exact) < 1e-12


def forward(ckpt: Any) -> Any:
    return jax.jit(lambda v: ours(ckpt.model, v, jnp.float64), compiler_options=QUICK_PROGRAMS)(ckpt.variables)


def test_the_classifier_on_a_ball_at_50_digits():
    """2 g/√c asinh((2<√c x, v/|v|> cosh(2√c r) - (1 + c|x|²) sinh(2√c r))/(1 - c|x|²)), with lengths g of both signs, and x clipped."""
    rng = draws.rng(2)
    model = HCNN(3, 4, (), (1,), encoder_manifold="euclidean", decoder_manifold="poincare", decoder_k=0.7, clip_features=0.5)
    params = {"kernel": rng.normal(size=(4, 3)), "length": np.array([0.7, -1.2, 0.4]), "bias": np.array([0.3, 0.2, -0.4])}
    features = rng.normal(size=(5, 4)) * np.array([0.1, 0.2, 1, 2, 3])[:, None]
    found = jax.jit(lambda p, x: model.apply({"params": {"decoder": p}}, x, method=lambda m, x: m.classify(m.placed(x))),
                    compiler_options=QUICK_PROGRAMS)(params, features)  # fmt: skip
    with workdps(50):
        c, want = mpf(0.7), []
        for row in exactly(features):
            x = list(row) if norm(row) <= mpf("0.5") else times(mpf("0.5") / norm(row), list(row))
            x = times(tanh(sqrt(c) * norm(x)) / (sqrt(c) * norm(x)), x)
            of = exactly(params)
            logits = []
            for v, g, r in zip(of["kernel"].T, of["length"], of["bias"], strict=True):
                along = 2 * sqrt(c) * dot(x, list(v)) / norm(v) * cosh(2 * sqrt(c) * r) - (1 + c * dot(x, x)) * sinh(2 * sqrt(c) * r)
                logits.append(2 * g / sqrt(c) * asinh(along / (1 - c * dot(x, x))))
            want.append(logits)
    assert relative_error(found, np.array(want, float)) < 1e-13


def norm(x: Any) -> Any:
    return sqrt(dot(list(x), list(x)))
