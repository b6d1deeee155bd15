"""A model of one's own: standard modules convert without a rule, and what is wrong with a port is said with its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import flax.linen as nn
import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import weights
from parity_tests import draws
from parity_tests.weights.helpers import assert_deep_equal
from parity_tests.weights.standard_modules import FlaxZoo, Zoo
from port_jax.manifolds import PoincareBall
from weights.mapping.port_manifolds import beside
from weights.mapping.rules import Rule
from weights.proof.verify import failed, verify

COMPILED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
FIXED = weights.curvature("planes.ball.isp_c", c=0.7)


def zoo(seed: int = 0) -> weights.Port:
    random = draws.rng(seed)
    inputs = {
        "x": random.normal(size=(2, 6, 4)), "image": random.normal(size=(2, 4, 5, 5)), "volume": random.normal(size=(2, 2, 4, 4, 4)),
        "ids": np.array([[0, 1, 2, 3, 4, 1]]),
    }  # fmt: skip
    return weights.Port(
        FlaxZoo(), rules=[FIXED, weights.module("net.0", "Dense_1"), weights.module("net.2", "Dense_0")], inputs=inputs, torch=Zoo
    )


@pytest.fixture(scope="module")
def zoo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draws.seed_torch(1)
    module = Zoo().double()
    optimizer = geoopt.optim.RiemannianAdam(module.parameters(), lr=1e-3, amsgrad=True)
    for _ in range(2):
        optimizer.zero_grad()
        given = [torch.as_tensor(value) for value in zoo().inputs.values()]
        found = module(*given).values()
        sum(x.square().mean() for value in found for x in (value if isinstance(value, tuple) else [value])).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("zoo") / "zoo.pth"
    torch.save({"model": module.state_dict(), "optimizer": optimizer.state_dict()}, path)
    return path


def test_standard_modules_convert_without_a_rule(zoo_file: Path, tmp_path: Path):
    """Their outputs in float64, and every bit on the way back."""
    port = zoo()
    ckpt = weights.load(zoo_file, port=port)
    module = Zoo().double().eval()
    module.load_state_dict(torch.load(zoo_file, weights_only=False)["model"])
    module.planes.ball.isp_c.data.fill_(np.log(np.expm1(0.7)))  # geoopt computes it in float32
    given = port.arguments({})
    theirs = module(*[torch.as_tensor(value) for value in given.values()])
    ours = jax.jit(ckpt.model.apply, compiler_options=COMPILED)(ckpt.variables, *given.values())
    for name, parts in theirs.items():
        several = parts if isinstance(parts, tuple) else [parts]
        for a, b in zip(several, ours[name] if isinstance(parts, tuple) else [ours[name]], strict=True):
            np.testing.assert_allclose(b, a.detach().numpy(), rtol=1e-9, atol=1e-12, err_msg=name)
    assert {*ckpt.variables} == {"params", "batch_stats", "buffers"}
    said = {row["key"]: row["becomes"] for row in ckpt.report["tensors"]}
    assert said["batch.running_var"] == "batch_stats/batch/var"
    assert said["batch.num_batches_tracked"] == "constant"
    ckpt.save(tmp_path / "out")
    again = weights.restore(tmp_path / "out", zoo())
    assert jax.tree.all(jax.tree.map(np.array_equal, ckpt.variables, again.variables))
    weights.export(again, tmp_path / "back.pth")
    assert_deep_equal(*(torch.load(path, weights_only=False) for path in (zoo_file, tmp_path / "back.pth")))
    with pytest.raises(weights.Usage, match=r"converted by a port of your own, 'FlaxZoo'.*--port"):
        weights.restore(tmp_path / "out")


@pytest.mark.slow
def test_gradients_and_steps_of_standard_modules(zoo_file: Path):
    """Gradients, and ten steps from the file's own moments, which are laid out as their parameters are."""
    rows = verify(weights.load(zoo_file, port=zoo()), zoo_file, types=("float64",))
    assert not failed(rows), [row for row in rows if not row.ok]
    assert {row.what for row in rows if row.level == "forward"} >= {"linear", "convolved.3", "normed.4", "attended.1", "recurrent.2"}
    assert {row.what for row in rows if row.level == "step"} >= {"lstm.weight_ih_l1_reverse", "attn.in_proj_bias", "far", "table.up"}


class Small(torch.nn.Module):
    def __init__(self, width: int = 4):
        super().__init__()
        self.ball = geoopt.PoincareBall(0.7)
        self.fc = torch.nn.Linear(4, width)
        self.norm = torch.nn.BatchNorm1d(width)

    def forward(self, x):
        return self.norm(self.ball.expmap0(self.fc(x)))


class Flax(nn.Module):
    width: int = 4

    @nn.compact
    def __call__(self, x):
        h = PoincareBall(0.7).expmap0(nn.Dense(self.width, name="fc")(x))
        return nn.BatchNorm(use_running_average=True, name="norm")(h)


BALL = weights.curvature("ball.isp_c", c=0.7)
INPUT = np.ones((3, 4))


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draws.seed_torch(2)
    path = tmp_path_factory.mktemp("small") / "small.pth"
    torch.save(Small().state_dict(), path)
    return path


def port(*rules: Any, **more: Any) -> weights.Port:
    return weights.Port(**{"model": Flax(), "rules": rules, "inputs": INPUT, "torch": Small, **more})


WRONG = {
    "a missing module": (lambda: port(BALL, weights.linear("fc", "params/fcc")), r"becomes params/fcc/kernel.*path is params/fc/ker"),
    "nothing": (lambda: port(BALL, weights.param("fd.weight", "params/fc/kernel")), r"'fd.weight' fits no key.*nearest key is 'fc.weight'"),
    "twice": (lambda: port(BALL, weights.constant("fc.weight"), weights.constant("fc.{n:any}")), r"'fc.weight' fits 2 rules: .*Remove one"),
    "a buffer": (lambda: port(BALL, weights.param("norm.running_mean", "params/m")), r"running_mean' is a buffer.*'batch_stats/m'"),
    "the input": (lambda: port(BALL, inputs=np.ones((3, 5)), model=Strict()), r"the port's inputs \(float.*\[3, 5\]\): .*five columns"),
    "no rule": (lambda: port(), r"'ball.isp_c' of shape \(\) fits no rule.*curvature\('ball.isp_c', c=0.7\).*lambda params: .*from_raw"),
    "the curvature": (lambda: port(weights.curvature("ball.isp_c", c=1.0)), r"'ball.isp_c' gives curvature .*, and the rule 1 .*c=0.7"),
    "a shape": (lambda: port(BALL, model=Flax(3)), r"'fc.weight' has shape \(4, 4\).* takes \(4, 3\)"),
    "a variable": (lambda: port(BALL, weights.constant("fc.bias")), r"no key fills the variable params/fc/bias of shape \(4,\)"),
    "what is no rule": (lambda: port("fc"), r"contain 'fc'.*param, buffer"),
    "a manifold": (lambda: port(BALL, manifolds={"fd": PoincareBall(0.7)}), r"manifolds name 'fd'.*fc/bias"),
    "the model": (lambda: port(BALL, model=lambda: 1 / 0), r"cannot be made: ZeroDivisionError"),
}  # fmt: skip


class Strict(nn.Module):
    @nn.compact
    def __call__(self, x):
        raise RuntimeError("five columns are one too many")


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_port_is_said_with_its_place(name: str, small_file: Path):
    make, message = WRONG[name]
    with pytest.raises(weights.ConversionError, match=message) as caught:
        weights.load(small_file, port=make())
    assert re.search(r"test_own_port\.py:\d+|standard rule", str(caught.value)), caught.value
    assert str(small_file) in str(caught.value)


def test_the_list_of_parameters_says_what_it_leaves_out():
    with pytest.raises(weights.Usage, match=r"nearest parameter is layers_11/w; .*, layers_7/w and 4 more"):
        beside(port(manifolds={"layers_11/bias": PoincareBall(0.7)}), None, {f"layers_{n}": {"w": INPUT} for n in range(12)})


def test_a_torch_module_that_does_not_load_the_file(small_file: Path):
    ckpt = weights.load(small_file, port=port(BALL, torch=lambda: Small(5)))
    with pytest.raises(weights.Unmatched, match=r"does not load the file: size mismatch .*test_own_port\.py:\d+"):
        verify(ckpt, small_file, level="forward")


def test_a_model_of_functions_and_renamed_modules(small_file: Path):
    """Without a flax module; and with one whose parts have other names than in torch."""

    def forward(variables, x):
        p, s = variables["params"], variables["batch_stats"]
        h = PoincareBall(0.7).expmap0(x @ p["w"] + p["b"])
        return (h - s["m"]) / jnp.sqrt(s["v"] + 1e-5) * p["scale"] + p["shift"]

    rules = [
        BALL, Rule("fc.weight", "params/w", weights.linear("", "")[0].layout), weights.param("fc.bias", "params/b"),
        weights.param("norm.weight", "params/scale"), weights.param("norm.bias", "params/shift"),
        weights.buffer("norm.running_mean", "batch_stats/m"), weights.buffer("norm.running_var", "batch_stats/v"),
        weights.constant("norm.num_batches_tracked"),
    ]  # fmt: skip
    mine = port(*rules, model=weights.Functions(forward), name="mine")
    assert not failed(verify(weights.load(small_file, port=mine), small_file, level="grad", types=("float64",)))

    class Renamed(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=True)(PoincareBall(0.7).expmap0(nn.Dense(4)(x)))

    found = weights.load(
        small_file, port=port(BALL, weights.module("fc", "Dense_0"), weights.module("norm", "BatchNorm_0"), model=Renamed())
    )
    same = weights.load(small_file, port=port(BALL))
    assert np.array_equal(found.variables["params"]["Dense_0"]["kernel"], same.variables["params"]["fc"]["kernel"])
    assert np.array_equal(found.variables["batch_stats"]["BatchNorm_0"]["var"], same.variables["batch_stats"]["norm"]["var"])


def test_a_pickled_manifold_is_compared(tmp_path: Path):
    ball = geoopt.PoincareBall(0.7)
    draws.seed_torch(3)
    module = torch.nn.Module()
    module.emb = geoopt.ManifoldParameter(ball.random_normal(3, 2, std=0.3), manifold=ball)
    torch.save({"emb": module.emb}, tmp_path / "x.pth")

    class Table(nn.Module):
        @nn.compact
        def __call__(self):
            return self.param("emb", nn.initializers.zeros, (3, 2))

    with pytest.raises(weights.Unmatched, match=r"'emb' lies on PoincareBall\(0\.7\) in the file, and on PoincareBall\(1\) in JAX"):
        weights.load(tmp_path / "x.pth", port=weights.Port(Table(), manifolds={"emb": PoincareBall(1.0)}))
    with pytest.raises(weights.Unmatched, match="on no manifold in JAX"):
        weights.load(tmp_path / "x.pth", port=weights.Port(Table()))
    weights.load(tmp_path / "x.pth", port=weights.Port(Table(), manifolds={"emb": PoincareBall(0.7)}))
