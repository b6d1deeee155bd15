"""Whose an optimizer's indices are, where neither names nor counts say it: a state goes to the parameter it is of, or nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geoopt
import jax
import numpy as np
import pytest
import torch

import weights
from parity_tests import draws
from port_jax.manifolds import PoincareBall
from weights.errors import Unmatched, Usage

NAMED = {"p": PoincareBall}


class Net(torch.nn.Module):
    """A point, its fixed ball, two linear maps of one shape, and a buffer; `unused` stands between the maps and has no gradient."""

    def __init__(self, buffer: int | None = 4, unused: bool = False, width: int = 4):
        super().__init__()
        draws.seed_torch(7)
        self.ball = geoopt.PoincareBall(0.7)
        self.p = geoopt.ManifoldParameter(self.ball.expmap0(0.1 * torch.randn(4)).detach(), manifold=self.ball)
        self.a = torch.nn.Linear(4, 1, bias=False)
        if unused:
            self.unused = torch.nn.Linear(width, 1, bias=False)
        self.b = torch.nn.Linear(4, 1, bias=False)
        self.c = torch.nn.Module()
        if buffer:
            self.c.register_buffer("mean", torch.zeros(1, buffer))

    def loss(self) -> torch.Tensor:
        return (self.ball.logmap0(self.p) * self.a.weight * self.b.weight + self.b.weight**2).sum()


def saved(path: Path, net: Net, *optimizers: Any) -> dict[str, np.ndarray]:
    """Writes the net and its optimizers after three steps; returns torch's first moments by the path in JAX."""
    for _ in range(3):
        [each.zero_grad() for each in optimizers]
        net.loss().backward()
        [each.step() for each in optimizers]
    torch.save({"model": net.state_dict(), **{f"opt_{n}": each.state_dict() for n, each in enumerate(optimizers)}}, path)
    states = {p: s for each in optimizers for p, s in each.state.items()}
    return {key.replace(".", "/"): states[p]["exp_avg"].numpy() for key, p in net.named_parameters() if p in states}


def moments(checkpoint: weights.Checkpoint) -> dict[str, np.ndarray]:
    """The first moments that a conversion has, but for those that are zero."""
    leaves = jax.tree.leaves_with_path(checkpoint.opt_state)
    named = {jax.tree_util.keystr(at, simple=True, separator="/"): np.asarray(leaf) for at, leaf in leaves}
    mine = {at.rpartition("mu/")[2]: leaf for at, leaf in named.items() if "mu/" in at}
    return {at: leaf for at, leaf in mine.items() if leaf.any()}


def radam(parameters: Any) -> Any:
    return geoopt.optim.RiemannianAdam(parameters, lr=1e-2)


def assert_same(found: dict[str, np.ndarray], torchs: dict[str, np.ndarray]) -> None:
    assert found.keys() == torchs.keys()
    for at, value in torchs.items():
        np.testing.assert_array_equal(found[at], value, at)


def test_a_buffer_in_the_place_of_a_fixed_curvature_is_asked_for(tmp_path: Path):
    """Counts and shapes fit with the curvature left out and the buffer taken for a parameter: every state one parameter too far."""
    net, path = Net(), tmp_path / "net.pth"
    torchs = saved(path, net, radam(net.parameters()))
    with pytest.raises(Usage, match=r"index 2 can be that of 'a\.weight' or of 'b\.weight'\. Give .*--group"):
        weights.load(path, arch="tree", manifolds=NAMED)
    found = weights.load(path, arch="tree", manifolds=NAMED, groups=[["p", "ball.isp_c", "a.weight", "b.weight"]])
    assert_same(moments(found), torchs)
    found.export(tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["opt_0"]
    assert list(back["state"]) == [0, 2, 3]
    assert back["param_groups"][0]["params"] == [0, 1, 2, 3]


@pytest.mark.parametrize("buffer", [None, 3])
@pytest.mark.parametrize("unused", [False, True])
@pytest.mark.parametrize("every", [True, False], ids=["with the curvature", "trained only"])
def test_shapes_and_missing_states_tell_which_reading_it_is(tmp_path: Path, buffer: int | None, unused: bool, every: bool):
    net, path = Net(buffer, unused, 5), tmp_path / "net.pth"
    torchs = saved(path, net, radam(p for p in net.parameters() if every or p.requires_grad))
    assert_same(moments(weights.load(path, arch="tree", manifolds=NAMED)), torchs)


def test_the_form_of_a_second_moment_tells_a_point_from_a_table(tmp_path: Path):
    """Two tables of one shape, one of which the optimizer does not have: the state is a point's."""
    net, path = torch.nn.Module(), tmp_path / "net.pth"
    draws.seed_torch(3)
    net.ball = geoopt.PoincareBall(0.7)
    net.table = torch.nn.Parameter(torch.randn(5, 3))
    net.p = geoopt.ManifoldParameter(0.2 * torch.randn(5, 3), manifold=net.ball)
    optimizer = radam([net.p])
    (net.ball.dist0(net.p).sum() + (net.p * net.table).sum()).backward()
    optimizer.step()
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, path)
    found = weights.load(path, arch="tree", manifolds=NAMED)
    assert_same(moments(found), {"p": optimizer.state[net.p]["exp_avg"].numpy()})


def test_several_optimizers_one_of_which_has_a_fixed_curvature(tmp_path: Path):
    for buffer in (4, 3):
        net, path = Net(buffer), tmp_path / f"{buffer}.pth"
        torchs = saved(path, net, radam([net.p, *net.ball.parameters()]), torch.optim.Adam([net.a.weight, net.b.weight], lr=1e-3))
        if buffer == 4:
            with pytest.raises(Usage, match=r"Nothing in it says whether 'a\.weight' is in group 0 of opt_1 or in none.*--group"):
                weights.load(path, arch="tree", manifolds=NAMED)
        else:
            assert_same(moments(weights.load(path, arch="tree", manifolds=NAMED)), torchs)


class Wrapped(torch.nn.Module):
    def __init__(self, model: Net):
        super().__init__()
        self.model, self.criterion = model, torch.nn.CrossEntropyLoss(torch.ones(1, 4))


def test_keys_beside_the_model_are_left_out_by_a_prefix_and_manifolds_are_named_as_the_file_names_them(tmp_path: Path):
    net, path = Net(buffer=None), tmp_path / "net.ckpt"
    optimizer = radam(net.parameters())
    torchs = saved(path, net, optimizer)
    torch.save({"state_dict": Wrapped(net).state_dict(), "optimizer_states": [optimizer.state_dict()]}, path)
    with pytest.raises(Usage, match=r"If the model is what begins with 'model\.', give --prefix model\. \(prefix='model\.'\)"):
        weights.load(path, arch="tree", manifolds={"model.p": PoincareBall})
    for name in ("p", "model.p", "model.p*"):
        assert_same(moments(weights.load(path, arch="tree", manifolds={name: PoincareBall}, prefix="model.")), torchs)
    compiled = {f"_orig_mod.module.{key}": value for key, value in net.state_dict().items()}
    torch.save({"model": compiled, "optimizer": optimizer.state_dict()}, path)
    for name in ("p", "_orig_mod.module.p"):
        assert_same(moments(weights.load(path, arch="tree", manifolds={name: PoincareBall})), torchs)


def test_an_architecture_that_has_every_key_is_not_said_to_lack_one(tmp_path: Path):
    path = tmp_path / "net.ckpt"
    torch.save({"state_dict": {"model.emb": torch.ones(4, 3), "criterion.weight": torch.ones(3)}}, path)
    with pytest.raises(Unmatched) as raised:
        weights.load(path)
    assert "does not have ." not in str(raised.value)


@pytest.mark.parametrize(
    "make", [torch.optim.NAdam, torch.optim.Muon, torch.optim.RAdam, torch.optim.Adadelta], ids=lambda make: make.__name__
)
def test_a_class_without_a_translation_is_said_to_have_none(tmp_path: Path, make: Any):
    net, path = torch.nn.Linear(3, 2, bias=False), tmp_path / "net.pth"
    one, other = make(net.parameters(), lr=1e-3), torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=1e-3)
    net.weight.sum().backward()
    one.step()
    torch.save({"model": net.state_dict(), "optimizer": one.state_dict()}, path)
    for name in (True, make.__name__):
        with pytest.raises(Unmatched, match=r"not (translated|recognised).*--no-optimizer") as raised:
            weights.load(path, arch="tree", optimizer=name)
        assert "--optimizer-class" not in str(raised.value)
    torch.save({"model": {**net.state_dict(), "b": torch.ones(2)}, "one": one.state_dict(), "other": other.state_dict()}, path)
    with pytest.raises(Unmatched, match=r"the optimizer at one: .*--no-optimizer.*another one: --optimizer-at other"):
        weights.load(path, arch="tree", groups={"one": [["weight"]], "other": [["b"]]})
