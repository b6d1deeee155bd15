"""HypLL's nets in Flax against the reference: outputs, gradients, steps of HypLL's optimizers, files with HypLL's classes, and back."""

import json
import sys
import types
from collections.abc import Iterator
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
from parity_tests.models.cases_hypll import CONFIGS, VALUE, case, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, check_steps, converted, spoiled, trained
from parity_tests.models.planted_errors import hurried
from parity_tests.weights.helpers import run
from reference_torch.layers.hypll import Columns
from reference_torch.optim.from_torch import hypll
from weights.checkpoint import load
from weights.errors import ConversionError, Unmatched, Usage
from weights.mapping.entries import flatten
from weights.models.hypll import HYPLL
from weights.proof.authors import of_authors
from weights.proof.verify import failed, verify
from weights.proof.witness import Witness

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
QUICK = {"convnet", "embedding, trained curvature"}


@pytest.mark.parametrize("name", slow.all_but(QUICK, CONFIGS))
def test_outputs_gradients_and_the_way_back(name: str, tmp_path: Path):
    module, config = case(name)
    ckpt = converted(module.eval(), config, tmp_path)
    assert ckpt.arch == "hypll"
    assert ("params/manifold/value" in flatten(ckpt.variables)) == config["curvature_requires_grad"]
    check_parity(module, ckpt, theirs, ours, single="resnet" not in name)
    check_round_trip(ckpt, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(theirs(module.train(), torch.float64), theirs(module.eval(), torch.float64), strict=True))


OPTIMIZERS = {
    "adam": lambda p: hypll.RiemannianAdam(p, 0.003, (0.8, 0.97), 1e-6, 0.1),
    "amsgrad": lambda p: hypll.RiemannianAdam(p, 0.003, amsgrad=True),
    "momentum": lambda p: hypll.RiemannianSGD(p, 0.003, 0.8, 0.1, 0.05),
    "nesterov": lambda p: hypll.RiemannianSGD(p, 0.003, 0.8, nesterov=True),
    "descent": lambda p: hypll.RiemannianSGD(p, 0.01),
}
STEPS = [("convnet", "adam"), ("embedding, trained curvature", "momentum"), ("embedding, trained curvature", "adam"),
         ("embedding", "nesterov"), ("embedding", "descent"), ("convnet of the tutorial", "momentum"),
         ("resnet, midpoints", "amsgrad"), ("resnet", "adam"), ("resnet of the tutorial", "nesterov")]  # fmt: skip


@pytest.mark.parametrize(("name", "optimizer"), slow.all_but(set(STEPS[:2]), STEPS))
def test_the_optimizers_go_on(name: str, optimizer: str, tmp_path: Path):
    """By the architecture alone: no class is named. A plain state of descent says nothing of its class."""
    module, config = case(name)
    drift = 1e-8 if "resnet" not in name else 1e-6  # means are known to 1e-12, and Adam divides by small gradients
    check_steps(module, OPTIMIZERS[optimizer](module.parameters()), config, tmp_path, theirs, ours, drift=drift)
    plan = load(tmp_path / "trained.pth", config=config).plan
    assert plan is not None
    assert plan.table == ("hypll.RiemannianAdam" if optimizer in ("adam", "amsgrad") else "hypll.RiemannianSGD")


@pytest.mark.parametrize("name", slow.all_but({"embedding"}, ["embedding", "convnet", "resnet, midpoints", "resnet of the tutorial"]))
def test_a_conversion_is_verified(name: str, tmp_path: Path):
    module, config = case(name)
    path = trained(module, OPTIMIZERS["momentum" if "embedding" in name else "adam"](module.parameters()), tmp_path, theirs)
    ckpt = load(path, config=config)
    rows = verify(ckpt, path, types=("float64",))
    assert not failed(rows), [row for row in rows if not row.ok]
    assert {row.level for row in rows} == {"bits", "settings", "forward", "grad", "step"}


def test_a_file_without_an_optimizer_is_verified_with_a_fresh_one(tmp_path: Path):
    module, config = case("embedding, trained curvature")
    ckpt = converted(module, config, tmp_path)
    rows = verify(ckpt, tmp_path / "model.pth", types=("float64",))
    assert not failed(rows), [row for row in rows if not row.ok]
    assert any("fresh" in row.what for row in rows)


def test_spoiled_keys(tmp_path: Path):
    module, config = case("embedding")
    state = dict(module.state_dict())
    for how, bad in spoiled(state, "weight").items():
        if how in ("longer", "transposed"):
            continue  # another table
        torch.save(bad, tmp_path / "model.pth")
        with pytest.raises(ConversionError):
            load(tmp_path / "model.pth", config=config)
    module, config = case()
    state = dict(module.state_dict())
    state["conv2.manifold.c.value"] = state["conv2.manifold.c.value"] + 0.1
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(Unmatched, match=r"'conv2\.manifold\.c\.value' differs from 'conv1\.manifold\.c\.value'"):
        load(tmp_path / "model.pth", config=config)


def test_what_a_file_does_not_say(tmp_path: Path):
    """The constraint of the curvature is asked for; the layers without parameters follow from the size of the images, or are asked for."""
    module, config = case()
    torch.save(module.state_dict(), tmp_path / "model.pth")
    with pytest.raises(Usage, match=r"constraining_strategy is neither in the file nor in the configuration"):
        load(tmp_path / "model.pth")
    with pytest.raises(Unmatched, match=r"constraining_strategy is 'relu'; .* softplus, identity, exp"):
        load(tmp_path / "model.pth", config={**config, "constraining_strategy": "relu"})
    with pytest.raises(Unmatched, match=r"fc1\.z has 16 rows; an image of 12 x 12 leads to 4 channels of 1 x 1"):
        load(tmp_path / "model.pth", config={**config, "image_size": 12})
    for name, value in {"paddings": [1], "pools": "2,0"}.items():
        with pytest.raises(Unmatched, match=f"{name} is .*; it has to be 2 whole numbers"):
            load(tmp_path / "model.pth", config={**config, name: value})
    with pytest.raises(Unmatched, match="which are no square kernel of 2 channels"):
        load(tmp_path / "model.pth", config={**config, "in_channels": 2})
    found = load(tmp_path / "model.pth", config={**config, "paddings": [1, 1], "pools": [2, 2]})
    assert (found.settings["paddings"], found.settings["pools"]) == ([1, 1], [2, 2])
    report = load(tmp_path / "model.pth", config=config).report["settings"]
    assert (report["paddings"]["value"], report["paddings"]["from"]) == ([1, 0], "default")
    assert report["curvature"]["value"] == [pytest.approx(np.log1p(np.exp(VALUE["softplus"])), rel=1e-7)]
    module, config = case("embedding")
    torch.save(module.state_dict(), tmp_path / "model.pth")
    with pytest.raises(Unmatched, match=r"the configuration has curvature_value 0\.3"):
        load(tmp_path / "model.pth", config={**config, "curvature_value": 0.3})
    by_identity = load(tmp_path / "model.pth", config={**config, "constraining_strategy": "identity"})
    assert by_identity.model.curvature == pytest.approx(VALUE["softplus"])


def test_a_trained_curvature_that_is_said_to_be_fixed(tmp_path: Path):
    module, config = case("embedding, trained curvature")
    path = trained(module, OPTIMIZERS["adam"](module.parameters()), tmp_path, theirs)
    with pytest.raises(Unmatched, match=r"the optimizer has state for 'manifold\.c\.value', which is fixed"):
        load(path, config={**config, "curvature_requires_grad": False, "curvature_value": module.manifold.c.value.item()})


# Files with HypLL's own classes: stand-ins under its names, which its pickles refer to.


@pytest.fixture
def classes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, type]]:
    found = {}
    for home, name, base in (
        ("hypll.tensors.manifold_tensor", "ManifoldTensor", object),
        ("hypll.manifolds.euclidean.manifold", "Euclidean", torch.nn.Module),
        ("hypll.manifolds.poincare_ball.manifold", "PoincareBall", torch.nn.Module),
        ("hypll.manifolds.poincare_ball.curvature", "Curvature", torch.nn.Module),
    ):
        parts = home.split(".")
        for n in range(1, len(parts) + 1):
            if ".".join(parts[:n]) not in sys.modules:
                monkeypatch.setitem(sys.modules, ".".join(parts[:n]), types.ModuleType(".".join(parts[:n])))
        cls = type(name, (base,), {"__module__": home})
        monkeypatch.setattr(sys.modules[home], name, cls, raising=False)
        found[name] = cls
    return found


def wrapped(module: Any, classes: dict[str, type], optimizer: Any = None, strategy: Any = torch.nn.functional.softplus) -> dict[str, Any]:
    """The state_dicts as HypLL has them: parameters on its manifolds, and the buffers of descent, are objects around tensors."""
    flat = classes["Euclidean"]()
    ball = classes["PoincareBall"]()
    ball.c = classes["Curvature"]()
    raw = next(p for key, p in module.named_parameters() if key.endswith("c.value"))
    ball.c.value = torch.nn.Parameter(raw.detach().clone(), requires_grad=raw.requires_grad)
    ball.c.constraining_strategy = strategy

    def wrap(tensor: torch.Tensor, manifold: Any, man_dim: int) -> Any:
        whole = classes["ManifoldTensor"]()
        whole.tensor, whole.manifold, whole.man_dim = tensor, manifold, man_dim
        return whole

    state = dict(module.state_dict())
    for key, p in module.named_parameters():
        if isinstance(p, Columns):
            state[key] = wrap(state[key], flat, 0)
        elif isinstance(p, geoopt.ManifoldParameter):
            state[key] = wrap(state[key], ball, 1)
    if optimizer is None:
        return {"model": state}
    section = optimizer.state_dict()
    for i, entry in section["state"].items():
        if "momentum_buffer" in entry and isinstance(list(module.parameters())[i], Columns | geoopt.ManifoldParameter):
            entry["momentum_buffer"] = wrap(entry["momentum_buffer"], classes["Euclidean"](), 1)
    return {"model": state, "optimizer": section}


@pytest.mark.parametrize(("name", "optimizer"), slow.all_but({("embedding, trained curvature", "momentum")},
                         [("embedding, trained curvature", "momentum"), ("convnet", "adam"), ("convnet", "momentum")]))  # fmt: skip
def test_files_with_hyplls_classes(name: str, optimizer: str, classes: dict[str, type], tmp_path: Path):
    """They say more than plain ones, convert to the same numbers, and come back bit by bit, in the objects in which they were."""
    module, config = case(name)
    moved = OPTIMIZERS[optimizer](module.parameters())
    plain = load(trained(module, moved, tmp_path, theirs), config=config)
    torch.save(wrapped(module, classes, moved), tmp_path / "full.pth")
    if name.startswith("embedding"):
        config = {k: v for k, v in config.items() if k not in ("constraining_strategy", "curvature_requires_grad")}
    ckpt = load(tmp_path / "full.pth", config=config)
    if name.startswith("embedding"):
        assert ckpt.report["settings"]["constraining_strategy"] == {"value": "softplus", "from": "the pickled manifold", "in_file": True}
        with pytest.raises(Unmatched, match="constraining_strategy is identity according to config"):
            load(tmp_path / "full.pth", config={**config, "constraining_strategy": "identity"})
    same = jax.tree.map(np.array_equal, (plain.variables, plain.opt_state), (ckpt.variables, ckpt.opt_state))
    assert all(jax.tree.leaves(same))
    ckpt.export(tmp_path / "back.pth")
    old, new = (torch.load(tmp_path / file, weights_only=False) for file in ("full.pth", "back.pth"))
    assert_same(old, new)
    ckpt.save(tmp_path / "folder")
    from weights.checkpoint import restore

    restore(tmp_path / "folder").export(tmp_path / "again.pth")
    assert_same(old, torch.load(tmp_path / "again.pth", weights_only=False))


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape, a.requires_grad) == (b.dtype, b.shape, b.requires_grad)
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
    elif hasattr(a, "man_dim"):
        assert a.man_dim == b.man_dim
        assert_same(a.tensor, b.tensor)
        assert_same(dict(a.manifold.state_dict()), dict(b.manifold.state_dict()))
    else:
        assert a == b


def test_other_constraints_in_pickles(classes: dict[str, type], tmp_path: Path):
    module, config = case("embedding")
    bare = {k: v for k, v in config.items() if k not in ("constraining_strategy", "curvature_requires_grad")}
    for function, c in ((torch.nn.Identity(), 0.1), (torch.exp, np.exp(0.1))):
        torch.save(wrapped(module, classes, strategy=function), tmp_path / "full.pth")
        assert load(tmp_path / "full.pth", config=bare).model.curvature == pytest.approx(c, rel=1e-6)
        tree = load(tmp_path / "full.pth", arch="tree")
        assert float(tree.manifolds["weight"].c) == pytest.approx(c, rel=1e-6)
    torch.save(wrapped(module, classes, strategy=torch.relu), tmp_path / "full.pth")
    with pytest.raises(Unmatched, match="constraining_strategy is 'relu'"):
        load(tmp_path / "full.pth", config=bare)


@pytest.mark.slow  # weights/test_own_port.py converts a model of one's own
def test_a_net_of_ones_own(classes: dict[str, type], tmp_path: Path):
    """Layers of HypLL in a module that no tutorial has, by a port: their keys need no rules but the curvature's."""
    import flax.linen as nn

    import weights
    from port_jax.layers import HFlatten, PoincareConv2d, PoincareLinear
    from port_jax.manifolds import PoincareBall
    from reference_torch.layers import hypll as hnn

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            ball = hnn.PoincareBall(hnn.Curvature(0.1))
            self.first, self.second = hnn.HConvolution2d(2, 3, 2, ball), hnn.HLinear(12, 4, ball)

        def forward(self, x):
            x = hnn.exp0(x.movedim(1, -1), self.first.manifold.c()).movedim(-1, 1)
            return self.second(hnn.HFlatten(self.first.manifold)(self.first(x)))

    class Ours(nn.Module):
        @nn.compact
        def __call__(self, x):
            ball = PoincareBall.from_raw(0.10000000149011612)
            h = PoincareConv2d(3, (2, 2), name="first")(ball, ball.expmap0(jnp.moveaxis(x, 1, -1)))
            return PoincareLinear(4, name="second")(ball, HFlatten()(ball, h))

    draws.seed_torch(0)
    module = Theirs()
    optimizer = hypll.RiemannianAdam(module.parameters(), lr=0.01)
    x = 0.3 * torch.randn(2, 2, 3, 3)
    module(x).square().sum().backward()
    optimizer.step()
    torch.save({"model": module.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "own.pth")
    rules = [weights.constant("first.manifold.c.value"), weights.tied("second.manifold.c.value", "first.manifold.c.value")]
    port = weights.Port(Ours(), rules=rules, inputs=np.asarray(x, np.float64), torch=Theirs, manifolds={})
    with pytest.raises(Unmatched, match=r"hypll\.RiemannianAdam"):
        load(tmp_path / "own.pth", port=port)
    ckpt = load(tmp_path / "own.pth", port=port, optimizer="hypll.RiemannianAdam")
    assert ckpt.variables["params"]["first"]["kernel"].shape == (2, 2, 2, 3)
    rows = verify(ckpt, tmp_path / "own.pth", types=("float64",))
    assert not failed(rows), [row for row in rows if not row.ok]


# What HypLL itself computed.

FOLDERS = ("hypll_convnet", "hypll_embedding_sgd", "hypll_resnet_frechet")
FILES = [(folder, file) for folder in FOLDERS for file in ("full.pth", "plain.pth")]
VALUES, STEPPED = 1e-4, 1e-3
"""Gates of float32."""


def fixture(folder: str) -> Path:
    path = FIXTURES / folder
    if not path.exists():
        pytest.skip(f"{path} is not here: the authors' checkpoints are no part of this project")
    return path


@pytest.mark.parametrize(("folder", "file"), slow.all_but({("hypll_embedding_sgd", "full.pth")}, FILES))
def test_what_hypll_computed(folder: str, file: str):
    """Outputs, gradients, and ten steps of the file's optimizer: the loss before each, and the parameters in the end."""
    path = fixture(folder)
    arrays = dict(np.load(path / "expected.npz"))
    with jax.enable_x64(False):
        ckpt = load(path / file, config=json.loads((path / "config.json").read_text()))
        assert HYPLL.probe is not None
        assert HYPLL.probe.recorded is not None
        found = HYPLL.probe.recorded(ckpt.settings, arrays)

        def outputs(params: Any) -> dict[str, Any]:
            def call(method: str, *args: Any) -> Any:
                return ckpt.model.apply({**ckpt.variables, "params": params}, *args, method=method)

            assert HYPLL.probe is not None
            return HYPLL.probe.outputs(ckpt.settings, call, {name: jnp.asarray(x) for name, x in found.inputs.items()})

        def loss(params: Any) -> Any:
            out = outputs(params)
            assert found.loss is not None
            return found.loss(out), out

        step = jax.jit(jax.value_and_grad(loss, has_aux=True))

        @jax.jit
        def advance(params: Any, state: Any, grads: Any) -> Any:
            updates, state = ckpt.optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        params, state = ckpt.variables["params"], ckpt.opt_state
        (value, out), grads = step(params)
        figures = {f"output {name}": (relative(out[name], want), VALUES) for name, want in found.outputs.items()}
        figures["loss"] = (relative(value, arrays["loss"]), VALUES)
        paths = {e.key: e for e in ckpt.entries if e.role == "parameter"}
        slopes = flatten({"params": grads})
        for at, want in arrays.items():
            if at.startswith("grad/"):
                entry = paths[at.removeprefix("grad/")]
                figures[at] = (relative(slopes[str(entry.path)], entry.layout.forward(want)), VALUES)
        losses = []
        for _ in range(len(arrays["resume_losses"])):
            (value, _), grads = step(params)
            losses.append(float(value))
            params, state = advance(params, state, grads)
        figures["losses"] = (relative(np.array(losses), arrays["resume_losses"]), STEPPED)
        start, end = flatten(ckpt.variables["params"]), flatten(params)
        for key, entry in paths.items():
            name, want = str(entry.path).removeprefix("params/"), entry.layout.forward(arrays[f"after10/{key}"])
            way = np.abs(want - np.asarray(start[name])).max()
            figures[f"after10/{key}"] = (float(np.abs(np.asarray(end[name]) - want).max() / way), STEPPED)
    wrong = [f"{name} {error:.1e} > {limit:.0e}" for name, (error, limit) in figures.items() if not error <= limit]
    assert not wrong, wrong


def relative(have: Any, want: Any) -> float:
    return float(np.max(np.abs(np.asarray(have) - want)) / np.max(np.abs(want)))


def test_wrong_steps_beside_a_recording_are_seen():
    """Updates that are 1 % too long, and torch's SGD in the place of HypLL's: the losses and the points say so."""
    path = fixture("hypll_embedding_sgd")
    ckpt = load(path / "full.pth", config=json.loads((path / "config.json").read_text()))
    witness = Witness.read(path / "expected.npz", ckpt)
    assert all(row.ok for row in of_authors(ckpt, witness))
    other = load(path / "plain.pth", config=json.loads((path / "config.json").read_text()), optimizer="SGD")
    for wrong in (hurried(ckpt), other):
        bad = [row.what for row in of_authors(wrong, witness) if not row.ok]
        assert bad == ["losses before 10 steps", "weight after 10 steps"]


@pytest.mark.slow  # the numbers are compared above
@pytest.mark.parametrize(("folder", "file"), FILES)
def test_verify_by_the_command_line(folder: str, file: str, monkeypatch, capsys):
    path = fixture(folder)
    code, out, err = run(monkeypatch, capsys, "verify", path / file, "--config", path / "config.json", "--witness", path / "expected.npz")
    assert code == 0, out + err
