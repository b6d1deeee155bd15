"""Parity as a tool: errors that are planted in the port of `examples/own_model` are named, with the layer at which they begin."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import weights
from examples.own_model.original import Net as Original
from examples.own_model.original import trained
from examples.own_model.port import PORT, Net
from parity_tests import draws
from port_jax.layers import Curved
from port_jax.manifolds import PoincareBall
from weights.proof.causes import of_arrays, of_no_numbers
from weights.proof.layers import difference
from weights.proof.parity import explained

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def original() -> Original:
    """Trained a little, so that biases and statistics are not what they begin with."""
    return trained(4)[0]


def first(layer: Any) -> nn.Module:
    """The network with another first layer: layer(ball, weight, bias, x)."""

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, ball, x):
            weight = self.param("weight", nn.initializers.zeros, (8, 6))
            return layer(ball, weight, self.param("bias", nn.initializers.zeros, (8,))[None], x)

    return planted(first=lambda: Layer(name="first"))


def planted(first: Any = None, curvature: Any = None, norm: Any = None, second: Any = None, before: Any = lambda x: x) -> nn.Module:
    from examples.own_model.port import MobiusLinear
    from port_jax.layers import Hyperplanes

    class Planted(Net):
        @nn.compact
        def __call__(self, x):
            ball = Curved("PoincareBall", 0.7, learnable=True, name="ball")()
            ball = curvature(ball) if curvature else ball
            h = (first or (lambda: MobiusLinear(8, name="first")))()(ball, ball.expmap0(x))
            u = nn.BatchNorm(**{"use_running_average": True, "name": "norm", **(norm or {})})(ball.logmap0(h))
            h = (second or (lambda: MobiusLinear(8, name="second")))()(ball, before(ball.expmap0(u)))
            return Hyperplanes(3, name="planes")(ball, h)

    return Planted()


class Turned(nn.Module):
    """The second layer with its square weight transposed."""

    @nn.compact
    def __call__(self, ball, x):
        weight = self.param("weight", nn.initializers.zeros, (8, 8))
        return ball.mobius_add(ball.mobius_matvec(weight.T, x), self.param("bias", nn.initializers.zeros, (8,))[None])


def right(ball, weight, bias, x):
    return ball.mobius_add(ball.mobius_matvec(weight, x), bias)


def in_training(model, variables, x):
    return model.apply(variables, x, train=True, mutable=["batch_stats"])[0]


ERRORS = {
    "transposed": (lambda: planted(second=lambda: Turned(name="second")), "second", "second.weight transposed"),
    "raw curvature": (lambda: planted(curvature=lambda ball: PoincareBall(ball.isp_c)), "first", "the raw curvature taken for c"),
    "sign of the output": (lambda: first(lambda *args: -right(*args)), "first", "a factor of -1"),
    "halves": (lambda: first(lambda *args: jnp.roll(right(*args), 4, -1)), "first", "halves exchanged"),
    "training mode": (lambda: {"call_jax": in_training, "train": None}, "norm", "training mode"),
    "epsilon": (lambda: planted(norm={"epsilon": 1e-3}), "norm", "epsilon 0.001 in the place of 1e-05"),
}
"""What kinds_of_error.py does not plant, and the layer at which each begins."""
QUICK = ("transposed",)


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else slow) for name in ERRORS])
def test_a_planted_error_is_named(name: str, original: Original):
    make, layer, kind = ERRORS[name]
    made = make()
    wrong = replace(PORT, **(made if isinstance(made, dict) else {"model": made, "train": None}))
    found = weights.parity(wrong, original, level="forward", types=("float64",))
    assert not found.ok
    assert found.first is not None
    assert found.first.torch == layer
    assert found.first.inputs_agree == (name != "raw curvature")
    assert found.cause is not None
    assert kind in found.cause.kind
    said = str(found)
    assert re.search(
        rf"The first layer that differs is {layer} \({layer} in flax\).*Farthest at \[\d, \d\]: \S+ in torch, \S+ in JAX", said
    )
    assert f"It looks like {found.cause.kind}" in said


def test_a_model_that_only_trains_is_refused(original: Original):
    with pytest.raises(weights.Unmatched, match=r"cannot be applied .*batch_stats.*port\.py:\d+\)\. Call it in evaluation"):
        weights.parity(
            replace(PORT, model=planted(norm={"use_running_average": False}), train=None), original, level="forward", types=("float64",)
        )


@slow
def test_what_is_between_the_layers_is_named(original: Original):
    """A factor before the second layer: that layer is given other inputs."""
    found = weights.parity(replace(PORT, model=planted(before=lambda x: 2 * x), train=None), original, level="forward", types=("float64",))
    assert found.first is not None
    assert (found.first.torch, found.first.inputs_agree) == ("second", False)
    assert "which is given other inputs: look at the code after norm, before second" in str(found)


@slow
def test_a_right_port_and_the_errors_that_its_inputs_would_not_show(original: Original):
    """Rows of zeros show nothing of the first weight; rows in general position show everything."""
    quick: dict[str, Any] = {"level": "forward", "types": ("float64",), "mutants": True}
    good = weights.parity(PORT, original, **quick)
    assert good.ok
    assert good.first is None
    assert len(good.planted) > 15
    assert not good.missed
    blind = weights.parity(PORT, original, np.zeros((4, 6)), **quick)
    assert blind.ok
    assert {one.what for one in blind.missed} >= {"first.weight with the other sign", "first.weight missing"}
    assert re.search(r"Inputs such as input = .*\.normal\(size=\(4, 6\)\) show it", str(blind))


@slow
def test_a_witness(tmp_path: Path):
    """What a program has recorded stands in the place of the torch module; a port that computes something else fails."""
    module, saved = trained(4)
    module.eval()
    torch.save(saved, tmp_path / "own.pth")
    record = weights.witness(tmp_path / "w.npz", module, tmp_path / "own.pth", input=torch.as_tensor(PORT.inputs, dtype=torch.float32))
    record.outputs(output=lambda i: module(i.input))
    port = replace(PORT, torch=None)
    found = weights.parity(port, tmp_path / "own.pth", witness=tmp_path / "w.npz")
    assert found.ok, found
    assert any(row.what == "output" for row in found.rows)
    wrong = replace(port, train=None, model=planted(second=lambda: Turned(name="second")))
    assert not weights.parity(wrong, tmp_path / "own.pth", witness=tmp_path / "w.npz").ok


def test_values_alone():
    x = draws.rng(0).normal(size=(4, 4))
    for factor, name in ((2.0, "2"), (0.75, "(N - 1) / N"), (0.7**0.5, "sqrt c"), (1 / 0.7, "1/c"), (-1.0, "-1 (the sign)"), (3.3, "3.3")):
        cause = of_arrays(x, factor * x, [0.7])
        assert cause is not None
        assert name in cause.kind
    assert of_arrays(np.array(3.0), np.array(3.5), sizes=[7]).kind == "a factor of N / (N - 1) for N = 7 (1.16667)"
    assert "axes" in of_arrays(x, x.T).kind
    assert "halves" in of_arrays(x, np.roll(x, 2, -1)).kind
    wide = draws.rng(1).normal(size=(3, 6))
    assert of_arrays(wide, wide.reshape(3, 2, 3).swapaxes(1, 2).reshape(3, 6)).kind == "axes exchanged (2 x 3 in torch, 3 x 2 in JAX)"
    assert of_arrays(x, x + 1) is None
    assert of_arrays(x, np.nan * x) is None
    assert of_arrays(x, x) is None


def test_what_is_not_finite_in_jax():
    """A raw curvature below 0 taken for c comes before everything else, and no factor is fitted to what is no number."""
    module = geoopt.PoincareBall(0.6, learnable=True).double()
    x = draws.rng(2).normal(size=(4, 3))
    assert "raw curvature taken for c" in of_no_numbers(module, x, np.nan * x).kind
    assert "from_raw" in of_no_numbers(module, x, np.where(x > 0, x, np.inf)).remedy
    assert "division by 0" in of_no_numbers(geoopt.PoincareBall(0.9, learnable=True), x, np.nan * x).kind
    assert of_no_numbers(module, x, x) is None
    assert of_no_numbers(module, np.nan * x, np.nan * x) is None


def test_the_line_that_turns_float64_on_is_said(original: Original):
    with jax.enable_x64(False), pytest.raises(weights.Usage, match=r'Write jax.config.update\("jax_enable_x64", True\)'):
        weights.parity(PORT, original, level="forward")


@pytest.mark.filterwarnings("error")
def test_what_was_found_in_words():
    """No warning of numpy, no percentile between infinities, and a gradient is no layer."""
    ours = draws.rng(3).normal(size=(4, 3))
    theirs = np.where(np.arange(12).reshape(4, 3) > 10, 0, ours * (1 + 1e-15))
    said = " ".join(explained(difference("lin", "lin", True, theirs, ours), None))
    assert re.search(r"median \d+, 99 % infinite \(torch has 0 there\)", said), said
    said = " ".join(explained(replace(difference("lin", "lin", False, theirs, np.nan * ours), after="rnn"), None))
    assert "lin (lin in flax), which is given other inputs: look at the code after rnn, before lin." in said
    assert "12 of 12 numbers are not finite in JAX where torch's are." in said
    said = " ".join(explained(difference("gradient of embed.weight", "x", True, theirs, ours), None))
    assert "The outputs agree, and the gradient of embed.weight differs." in said
    assert "layer" not in said


@slow
def test_gradients_alone(original: Original):
    """Forward passes agree and one gradient is stopped."""
    net = first(lambda ball, w, b, x: right(ball, jax.lax.stop_gradient(w), b, x))
    found = weights.parity(replace(PORT, model=net, train=None), original, level="grad", types=("float64",))
    assert not found.ok
    assert found.first is not None
    assert found.first.torch == "gradient of first.weight"


@slow
def test_a_module_and_its_optimizer():
    """Ten steps from the state of the optimizer that is given beside the module."""
    module = trained(0)[0]
    optimizer = geoopt.optim.RiemannianAdam(module.parameters(), lr=1e-2)
    module(torch.randn(5, 6)).square().mean().backward()
    optimizer.step()
    found = weights.parity(PORT, module, optimizer=optimizer, types=("float64",))
    assert found.ok, str(found)
    assert not any("fresh" in row.what for row in found.rows)


STEPS = {
    "right": (lambda rate: optax.chain(optax.add_decayed_weights(0.1), optax.adam(rate)), None),
    "decay outside": (lambda rate: optax.adamw(rate, weight_decay=0.1), "decay outside .* in the port; torch has decay inside"),
    "no decay": (lambda rate: optax.adam(rate), "no decay in the port; torch has decay inside"),
    "epsilon inside": (
        lambda rate: optax.chain(optax.add_decayed_weights(0.1), optax.adam(rate, eps=0.0, eps_root=1e-8)),
        "epsilon inside the root in the port; torch has epsilon outside",
    ),
    "rate": (lambda rate: optax.chain(optax.add_decayed_weights(0.1), optax.adam(2 * rate)), "another learning rate: 2"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "decay outside" else slow) for name in STEPS])
def test_an_optimizer_of_ones_own(name: str):
    """A transformation of optax beside torch's Adam, on a flat network."""
    make, kind = STEPS[name]
    draws.seed_torch(5)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    for parameter in module.parameters():
        parameter.data *= 1e-3 if name == "epsilon inside" else 1.0
    port = weights.Port(nn.Sequential([nn.Dense(3), nn.tanh, nn.Dense(2)]), inputs=draws.rng(6).normal(size=(5, 4)))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2, weight_decay=0.1)
    found = weights.parity(port, module, optimizer=optimizer, transformation=make(1e-2), types=("float64",))
    if name == "decay outside":
        module(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        with pytest.raises(weights.Usage, match="the optimizer of torch has made steps"):
            weights.parity(port, module, optimizer=optimizer, transformation=make(1e-2), level="bits")
    assert found.ok == (kind is None), found
    if kind is not None:
        assert found.cause is not None
        assert re.search(kind, found.cause.kind), found.cause
