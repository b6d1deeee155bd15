"""HyperbolicCV's residual networks in Flax against the reference: outputs, gradients, steps, running statistics, files, and back."""

from __future__ import annotations

import argparse
from functools import partial
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
from parity_tests.models.fixtures import agreed
from parity_tests.oracle.networks import exactly
from parity_tests.oracle.stereographic import dot, times
from parity_tests.tolerances import DEVIATIONS, relative_error
from parity_tests.weights.helpers import assert_deep_equal
from port_jax.models import HCNN
from reference_torch.models.hcnn import HCNN as HCNN_torch
from weights.checkpoint import load, restore
from weights.errors import ConversionError
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


@pytest.mark.parametrize("name", slow.all_but({"lorentz"}, CONFIGS))
def test_the_optimizers_go_on(name: str, tmp_path: Path):
    """Also with trained radii, whose steps leave the points beside their hyperboloid, and with optimizers that do not know of points."""
    module, config = case(name)
    check_steps(module, optimizer_of(module), config, tmp_path, theirs, ours)


@pytest.mark.parametrize("name", slow.all_but({"lorentz"}, CONFIGS))
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


def save_as_the_script_does(module: HCNN_torch, optimizer: torch.optim.Optimizer, scheduler: Any, path: Path, name: str) -> None:
    """model, optimizer, lr_scheduler, epoch, and args as argparse has them."""
    names = ("encoder_manifold", "decoder_manifold", "encoder_k", "decoder_k", "learn_k", "embedding_dim", "clip_features", "optimizer")
    args = argparse.Namespace(**{key: CONFIGS[name][key] for key in names if key in CONFIGS[name]}, lr=0.002, num_layers=18)
    sections = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": scheduler.state_dict()}
    torch.save({**sections, "epoch": 1, "args": args}, path)


@pytest.mark.parametrize("name", slow.all_but({"to poincare"}, ["to poincare", "equal trained radii"]))
def test_a_file_of_the_script(name: str, tmp_path: Path):
    """It needs no configuration; the groups are the script's, the scheduler goes on, and all of it comes back bit by bit."""
    module, _ = case(name)
    optimizer = optimizer_of(module.float())
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], gamma=0.2)
    for _ in range(2):
        for _ in range(3):
            optimizer.zero_grad()
            theirs(module, torch.float32)[2].square().sum().backward()
            optimizer.step()
        scheduler.step()
    save_as_the_script_does(module, optimizer, scheduler, tmp_path / "final.pth", name)
    ckpt = load(tmp_path / "final.pth")
    assert (ckpt.arch, ckpt.settings["learn_k"]) == ("hcnn", True)
    assert ckpt.plan is not None
    names = {id(p): key for key, p in module.named_parameters()}
    assert [[ckpt.plan.keys[i] for i in listed] for listed in ckpt.plan.listed] == [
        [names[id(p)] for p in group["params"]] for group in optimizer.param_groups
    ]
    assert ckpt.plan.per_step == 3
    ckpt.save(tmp_path / "folder")
    for n, source in enumerate((ckpt, restore(tmp_path / "folder"))):
        source.export(tmp_path / f"{n}.pth")
        assert_deep_equal(*(torch.load(tmp_path / file, weights_only=False) for file in ("final.pth", f"{n}.pth")))


@pytest.mark.parametrize("name", slow.all_but({"lorentz"}, ["lorentz", "bottleneck", "to poincare", "euclidean"]))
def test_a_network_that_begins_here_has_the_laws_of_the_reference(name: str, tmp_path: Path):
    """Means, deviations and bounds of each parameter of a fresh network, as far as its number of elements tells them."""
    draws.seed_torch(3)
    of = {"clip_features": 1.0, **CONFIGS[name], "embedding_dim": 24, "classes": 30, "in_channels": 3}
    ckpt = converted(HCNN_torch(of), case(name)[1], tmp_path)
    fresh = jax.jit(ckpt.model.init, compiler_options=QUICK_PROGRAMS)(draws.key(4), jnp.zeros((1, 2, 2, 3)))
    want, have = flatten(ckpt.variables), flatten(fresh)
    assert want.keys() == have.keys()
    for path, there in want.items():
        here, there = np.asarray(have[path], np.float64), np.asarray(there, np.float64)
        assert here.shape == there.shape, path
        if there.std() == 0:
            np.testing.assert_allclose(here, there, rtol=1e-6, err_msg=path)
            continue
        if there.size < 20:  # two biases of a bottleneck
            assert here.std() > 0, path
            continue
        errors = DEVIATIONS / there.size**0.5  # standard errors of a deviation are at most s / sqrt(2 n), here of both
        assert abs(np.log(here.std() / there.std())) < errors, path
        assert abs(here.mean() - there.mean()) < 2**0.5 * errors * there.std(), path
        if name != "to poincare" or "decoder" not in path:  # uniform laws, of which 20 of n numbers miss the outermost part
            assert np.abs(here).max() < np.abs(there).max() * (1 + 20 / there.size), path


def test_equal_radii_pass_points_as_they_are():
    """By values, where the radii are trained: then the derivatives by both are 0, otherwise they are the original's."""
    module = case("trained radii")[0]
    x = module.encoder(torch.as_tensor(images()).movedim(-1, 1)).detach()
    model = HCNN(3, 3, (2,), (1, 1), encoder_k=0.8, decoder_k=1.7, learn_k=True)

    @partial(jax.jit, compiler_options=QUICK_PROGRAMS)
    def pulled(radii: Any, x: Any) -> Any:
        def total(radii: Any) -> Any:
            params = {f"{side}_space": {"k": k} for side, k in radii.items()}
            return jnp.cos(model.apply({"params": params}, x, method="placed")).sum()

        return jax.value_and_grad(total)(radii)

    for goal in (1.7, 0.8):
        module.zero_grad()
        with torch.no_grad():
            module.enc_manifold.k.fill_(0.8)
            module.dec_manifold.k.fill_(goal)
        want = torch.cos(module.placed(x)).sum()
        slopes = torch.autograd.grad(want, (module.enc_manifold.k, module.dec_manifold.k), allow_unused=True) if goal != 0.8 else (0, 0)
        have, grads = pulled({"encoder": jnp.asarray(0.8), "decoder": jnp.asarray(goal)}, jnp.asarray(x.numpy()))
        np.testing.assert_allclose(have, want.detach(), rtol=1e-12)
        np.testing.assert_allclose([grads["encoder"], grads["decoder"]], [float(s) for s in slopes], rtol=1e-9, atol=1e-12)


def test_what_does_not_fit_is_refused(tmp_path: Path):
    module, config = case("lorentz")
    state, path = dict(module.state_dict()), tmp_path / "x.pth"

    def refused(changed: dict, match: str, **more: Any) -> None:
        torch.save(changed, path)
        with pytest.raises(ConversionError, match=match):
            load(path, config={**config, **more})

    refused({**state, "encoder.conv2_x.0.conv.1.manifold.k": torch.tensor(1.4)}, r"conv\.1\.manifold\.k' differs from 'encoder.manifold.k'")
    refused(state, "gives curvature 1.29999995, the configuration gives 1.2", encoder_k=1.2)
    refused(state, "optimizer is 'AdamW'; HyperbolicCV's scripts have", optimizer="AdamW")
    ball = {"decoder.weight_v": torch.ones(2, 3), "decoder.weight_g": torch.ones(3), "decoder.bias": torch.ones(3)}
    refused({**{key: value for key, value in state.items() if not key.startswith("decoder.")}, **ball}, "which HyperbolicCV's code cannot")
    beta = "encoder.conv2_x.0.conv.4.beta"
    refused({**state, beta: state[beta] + torch.tensor([0.5, 0, 0])}, f"{beta}' contains a point that is not on its Lorentz")
    with pytest.raises(ValueError, match="decoder_manifold is 'poincare' after an encoder on a hyperboloid"):
        HCNN(3, decoder_manifold="poincare")


FOLDERS = ("hcnn_hybrid_poincare", "hcnn_lorentz")


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_what_the_authors_code_computed(folder: str):
    """Outputs, gradients and groups, and of the smaller network ten steps in training."""
    _, rows = agreed(folder, steps=folder != "hcnn_lorentz")
    assert {"embeddings", "logits", "train_logits"} <= {row.what for row in rows}
