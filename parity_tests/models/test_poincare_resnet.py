"""Poincaré ResNet in Flax against the reference: outputs, gradients, steps, files both ways, and what the authors' code computed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.models.cases_poincare_resnet import COMPARED, case, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, check_steps, converted, pulled, trained
from parity_tests.weights.helpers import assert_deep_equal, run
from port_jax.models import PoincareResNet
from weights.checkpoint import load
from weights.errors import Unmatched, Usage
from weights.mapping.entries import flatten
from weights.proof.verify import failed, verify

FIXTURE = Path(__file__).parents[3] / "shared" / "fixtures" / "poincare_resnet"


def adam(module: Any) -> torch.optim.Optimizer:
    """As the authors make it: of all parameters, those of fixed curvatures included."""
    return geoopt.optim.RiemannianAdam(module.parameters(), lr=0.003, weight_decay=0.01)


def descent(module: Any) -> torch.optim.Optimizer:
    return geoopt.optim.RiemannianSGD(module.parameters(), lr=0.003, momentum=0.9, weight_decay=0.01)


@pytest.mark.parametrize("name", slow.all_but({"fixed"}, COMPARED))
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
        outs = theirs(module, torch.float64)
        module.zero_grad()
        sum(out.sum() for out in outs).backward()
        _, have = pulled(ckpt, ours, [np.ones(out.shape) for out in outs])
        named, sizes = dict(module.named_parameters()), []
        for entry in (entry for entry in ckpt.entries if entry.role == "parameter"):
            want = entry.layout.forward(named[entry.key].grad.numpy())
            assert np.abs(np.asarray(have[str(entry.path)]) - want).max() <= 1e-9 * np.abs(want).max(), entry.key
            sizes += [abs(want.item())] if entry.key.endswith("isp_c") else []
        assert max(sizes) > 1e13
        assert min(sizes) < 10


STEPS = [("fixed", adam), ("fixed", descent), ("other choices", descent), ("trained", adam), ("trained, by autograd", adam)]


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


@pytest.mark.slow  # test_verify.py has a fixed one
def test_a_trained_one_is_verified(tmp_path: Path):
    module, config = case("trained, by autograd")
    path = trained(module, adam(module), tmp_path, theirs)
    ckpt = load(path, config=config)
    rows = verify(ckpt, path, types=("float64",))
    assert not failed(rows), [row for row in rows if not row.ok]
    assert {row.level for row in rows} == {"bits", "settings", "forward", "grad", "step"}


def test_what_a_file_does_not_say(tmp_path: Path):
    """Without a configuration it is asked for by its name; with one, what that leaves out is what the authors' code has."""
    module, config = case()
    path = tmp_path / "model.pth"
    torch.save(module.state_dict(), path)
    with pytest.raises(Usage, match="learnable is neither in the file nor in the configuration"):
        load(path)
    ckpt = load(path, config={"pool_size": 2})
    report = ckpt.report["settings"]
    assert report["curvature"]["value"] == [pytest.approx(0.8, rel=1e-7)]  # isp_c itself, and not softplus of it
    assert report["channel_dims"] == {"value": [2], "from": "shapes of the convolutions", "in_file": True}
    assert {name: report[name]["value"] for name in ("custom_autograd", "skip_connection", "bn_midpoint")} == {
        "custom_autograd": True, "skip_connection": "fr", "bn_midpoint": True}  # fmt: skip
    assert not ckpt.model.exact_distance
    by_softplus = load(path, config={**config, "custom_autograd": False})
    assert by_softplus.model.curvature == pytest.approx(np.log1p(np.exp(0.8)), rel=1e-7)
    for name, value, message in (
        ("skip_connection", "none", "skip_connection is 'none'; the code adds by 'fr'"),
        ("pool_size", 0, "pool_size is 0"),
        ("act_layer", "<class 'torch.nn.modules.activation.GELU'>", "only nets with ReLU are converted"),
        ("init_c", 0.1, "init_c is 0.1 according to config and 0.8"),
        ("model", "hyperbolic-8-16-32-resnet-20", r"channel_dims is \[8, 16, 32\] according to config"),
    ):
        given = {key: told for key, told in config.items() if key not in ("channel_dims", "depths")}
        with pytest.raises(Unmatched, match=message):
            load(path, config={**given, name: value})
    for act in ("torch.nn.ReLU", "<class 'torch.nn.modules.activation.ReLU'>", "relu"):
        load(path, config={**config, "act_layer": act})
    state = dict(module.state_dict())
    below = {key: torch.full_like(value, -0.3) if key.endswith("isp_c") else value for key, value in state.items()}
    torch.save(below, path)
    with pytest.raises(Unmatched, match=r"'conv_ball\.isp_c' is -0\.3, which is c itself"):
        load(path, config={**config, "init_c": -0.3})
    assert load(path, config={**config, "init_c": -0.3, "custom_autograd": False}).model.curvature < 0.6


def test_curvatures_that_differ_were_trained(tmp_path: Path):
    """Each ball has its own; that of the sums is in no file, and stays where training began, which the configuration says."""
    module, config = case("trained, two groups")
    path = tmp_path / "model.pth"
    state = dict(module.state_dict())
    torch.save(state, path)
    with pytest.raises(Unmatched, match=r"learnable is False according to config and True according to conv_ball\.isp_c and "):
        load(path, config={**config, "learnable": False})
    bare = {key: value for key, value in config.items() if key != "learnable"}
    ckpt = load(path, config=bare)
    assert ckpt.report["settings"]["learnable"]["in_file"]
    assert ckpt.model.learnable_curvature
    assert ckpt.model.curvature == pytest.approx(np.log1p(np.exp(0.6)), rel=1e-7)
    assert ckpt.report["settings"]["curvature"]["in_file"] is False
    at = {entry.key: entry.path for entry in ckpt.entries}
    assert at["group2.0.downsample.ball.isp_c"] == "params/group2_0/downsample_ball/isp_c"
    assert [entry.role for entry in ckpt.entries if entry.key.endswith("bn2.norm.ball.isp_c")] == ["tied", "tied"]
    torch.save({**state, "fc.ball.isp_c": state["fc.ball.isp_c"] + 0.1}, path)
    with pytest.raises(Unmatched, match=r"'fc\.ball\.isp_c' differs from 'linear_ball\.isp_c'"):
        load(path, config=config)


def test_a_trained_curvature_that_is_said_to_be_fixed(tmp_path: Path):
    """Before its first step all curvatures are equal; the optimizer's state tells."""
    module, config = case("trained")
    with torch.no_grad():
        for key, p in module.named_parameters():
            if key.endswith("isp_c"):
                p.fill_(0.6)
    optimizer = adam(module)
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    optimizer.step()
    torch.save({"model": module.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "model.pth")
    with pytest.raises(Unmatched, match=r"the optimizer has state for 'conv_ball\.isp_c', which is fixed"):
        load(tmp_path / "model.pth", config={**config, "learnable": False})


def test_a_bare_file_without_a_configuration_is_inspected(tmp_path: Path, monkeypatch, capsys):
    module, _ = case()
    torch.save(module.state_dict(), tmp_path / "model.pth")
    _, out, err = run(monkeypatch, capsys, "inspect", tmp_path / "model.pth")
    assert "poincare_resnet" in out + err
    assert "learnable" in out + err


def test_images_that_do_not_come_to_the_pool_are_refused():
    model = PoincareResNet((2,), (1,), 3, pool=2)
    with pytest.raises(ValueError, match="images of 4 x 2 come to 4 x 2 pixels, and the pool is 2 x 2: give images of 2 pixels"):
        jax.eval_shape(model.init, draws.key(0), jnp.zeros((1, 4, 2, 3)))
    with pytest.raises(ValueError, match="skip_connection"):
        jax.eval_shape(PoincareResNet((2,), (1,), 3, skip_connection="none").init, draws.key(0), jnp.zeros((1, 8, 8, 3)))


@pytest.mark.slow  # the layers have their own test
def test_the_right_formula_is_an_option(tmp_path: Path):
    """Without the slips the model is another one, whose curvatures have derivatives of the size of its outputs."""
    module, config = case("trained")
    ckpt = converted(module, config, tmp_path)
    right = replace(ckpt, model=ckpt.model.clone(exact_distance=True, exact_derivatives=True))
    want = [out.detach().numpy() for out in theirs(module, torch.float64)]
    outs, slopes = pulled(right, ours, [np.ones(out.shape) for out in want])
    assert np.abs(outs[1] - want[1]).max() > 1e-3
    assert max(abs(float(slope)) for path, slope in slopes.items() if path.endswith("isp_c")) < 100


# What the authors' code computed.

VALUES, STEPPED = 1e-4, 1e-3
"""Gates of float32."""


def fixture() -> Path:
    if not FIXTURE.exists():
        pytest.skip(f"{FIXTURE} is not here: the authors' checkpoints are no part of this project")
    return FIXTURE


def relative(have: Any, want: Any) -> float:
    return float(np.max(np.abs(np.asarray(have) - want)) / np.max(np.abs(want)))


@pytest.mark.slow  # a network of three groups on images of 32 x 32: its compilation takes most of a minute
def test_what_the_authors_code_computed():
    """Outputs, gradients, and ten steps of the file's optimizer: the loss before each, and the parameters in the end."""
    path = fixture()
    arrays = dict(np.load(path / "expected.npz"))
    with jax.enable_x64(False):
        ckpt = load(path / "full.pth", config=path / "config.json")
        x = jnp.asarray(np.moveaxis(arrays["images"], 1, -1))

        def loss(params: Any, x: Any) -> Any:
            logits = ckpt.model.apply({**ckpt.variables, "params": params}, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, arrays["labels"]).mean(), logits

        @jax.jit
        def step(params: Any, state: Any, x: Any) -> Any:  # of images that are known, XLA would compute the first layer itself
            (value, logits), grads = jax.value_and_grad(loss, has_aux=True)(params, x)
            updates, state = ckpt.optimizer.update(grads, state, params)
            return value, logits, grads, optax.apply_updates(params, updates), state

        params, state, losses = ckpt.variables["params"], ckpt.opt_state, []
        value, logits, grads, *_ = step(params, state, x)
        for _ in range(10):
            before, _, _, params, state = step(params, state, x)
            losses.append(float(before))
        figures = {"logits": (relative(logits, arrays["logits"]), VALUES), "loss": (relative(value, arrays["loss"]), VALUES)}
        figures["losses"] = (relative(np.array(losses), arrays["resume_losses"]), STEPPED)
        slopes, start, end = flatten({"params": grads}), flatten(ckpt.variables["params"]), flatten(params)
        for entry in (entry for entry in ckpt.entries if entry.role == "parameter"):
            name = str(entry.path).removeprefix("params/")
            figures[f"grad/{entry.key}"] = (relative(slopes[str(entry.path)], entry.layout.forward(arrays[f"grad/{entry.key}"])), VALUES)
            want = entry.layout.forward(arrays[f"after10/{entry.key}"])
            way = np.abs(want - np.asarray(start[name])).max()
            figures[f"after10/{entry.key}"] = (float(np.abs(np.asarray(end[name]) - want).max() / way), STEPPED)
    wrong = [f"{name} {error:.1e} > {limit:.0e}" for name, (error, limit) in figures.items() if not error <= limit]
    assert not wrong, wrong


def test_a_bare_file_of_the_authors_comes_back_bit_by_bit(tmp_path: Path):
    path = fixture()
    for name in ("model.pth", "full.pth"):
        ckpt = load(path / name, config=path / "config.json")
        assert (ckpt.arch, ckpt.opt_state is None) == ("poincare_resnet", name == "model.pth")
        assert ckpt.model.curvature == float(np.float32(0.1))
        ckpt.export(tmp_path / name)
        assert_deep_equal(torch.load(path / name, weights_only=True), torch.load(tmp_path / name, weights_only=True))
