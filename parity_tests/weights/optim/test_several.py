"""Several optimizers over disjoint parameters in one file: one transformation in JAX, which goes on as torch does with all of them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable
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
from torch.optim import lr_scheduler

import weights
from parity_tests import draws
from parity_tests.models import cases_hyptorch
from parity_tests.weights.helpers import assert_deep_equal, run
from parity_tests.weights.optim.going_on import assert_close, flat
from port_jax.manifolds import PoincareBall
from weights.errors import Unmatched, Usage
from weights.proof.reading import Said
from weights.proof.verify import failed, unverified, verify

STEPS = 5
POINTS, FLAT = ["emb", "shift"], ["plain", "lin.weight", "lin.bias"]
NAMED = {"emb": PoincareBall, "shift": PoincareBall}
"""On the ball of the file."""


class Net(torch.nn.Module):
    """Points and a plain table of one shape, a point that shifts, a linear map, and the ball, which may be trained."""

    def __init__(self, learnable: bool = False):
        super().__init__()
        draws.seed_torch(1)
        self.ball = geoopt.PoincareBall(c=0.7, learnable=learnable)
        self.plain = torch.nn.Parameter(torch.randn(6, 3))
        self.emb = geoopt.ManifoldParameter(0.2 * torch.randn(6, 3), manifold=self.ball)
        self.shift = geoopt.ManifoldParameter(0.2 * torch.randn(3), manifold=self.ball)
        self.lin = torch.nn.Linear(3, 2)
        self.double()

    def loss(self, target: torch.Tensor) -> torch.Tensor:
        points = self.ball.mobius_add(self.emb, self.shift)
        return ((self.lin(self.ball.logmap0(points) * self.plain) - target) ** 2).sum()


Make = Callable[[Iterable[Any]], Any]


def radam(p: Iterable[Any]) -> Any:
    return geoopt.optim.RiemannianAdam(p, lr=1e-2, weight_decay=0.01)


def rsgd(p: Iterable[Any]) -> Any:
    return geoopt.optim.RiemannianSGD(p, lr=2e-2, momentum=0.9, stabilize=3)


def adam(p: Iterable[Any]) -> Any:
    return torch.optim.Adam(p, lr=3e-3, weight_decay=0.1)


def adamw(p: Iterable[Any]) -> Any:
    return torch.optim.AdamW(p, lr=3e-3, weight_decay=0.1)


PAIRS: dict[str, tuple[Make, Make]] = {"RiemannianAdam, Adam": (radam, adam), "RiemannianSGD, AdamW": (rsgd, adamw)}
HOLDERS: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    "names": lambda h, e: {"opt_h": h, "opt_e": e},
    "Lightning": lambda h, e: {"optimizer_states": [h, e]},
    "a dict": lambda h, e: {"optimizer": {"h": h, "e": e}},
}
PLACES = {"names": ("opt_h", "opt_e"), "Lightning": ("optimizer_states.0", "optimizer_states.1"), "a dict": ("optimizer.h", "optimizer.e")}


class Run:
    """A Net in training with two optimizers: one of points, one of everything else."""

    def __init__(self, pair: str = "RiemannianAdam, Adam", *, scheduled: bool = False, learnable: bool = False, flat: Iterable[str] = FLAT):
        self.net, (one, two) = Net(learnable), PAIRS[pair]
        own = dict(self.net.named_parameters())
        rest = [*flat, *(["ball.isp_c"] if learnable else [])]
        self.optimizers = [one([own[k] for k in POINTS]), two([p for k, p in own.items() if k in rest])]
        schedulers = (lr_scheduler.StepLR(self.optimizers[0], 2, 0.5), lr_scheduler.ExponentialLR(self.optimizers[1], 0.9))
        self.schedulers = schedulers if scheduled else ()
        self.steps = 0

    def go(self, steps: int) -> list[dict[str, Any]]:
        """The gradients of each step."""
        found = []
        for _ in range(steps):
            self.net.zero_grad()
            self.net.loss(torch.randn(6, 2, generator=draws.generator(self.steps)).double()).backward()
            found.append({k: p.grad.numpy().copy() for k, p in self.net.named_parameters() if p.grad is not None})
            for each in (*self.optimizers, *self.schedulers):
                each.step()
            self.steps += 1
        return found

    def values(self) -> dict[str, np.ndarray]:
        return {k: v.detach().numpy().copy() for k, v in self.net.named_parameters()}

    def save(self, path: Path, holder: str = "names", **more: Any) -> Path:
        states = [each.state_dict() for each in self.optimizers]
        torch.save({"model": self.net.state_dict(), **HOLDERS[holder](*states), **more}, path)
        return path

    def resumed(self, path: Path, holder: str) -> Run:
        """Goes on from a file, as its program would."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = torch.load(path, weights_only=True)
        self.net.load_state_dict(tree["model"])
        for each, place in zip(self.optimizers, PLACES[holder], strict=True):
            found = tree
            for name in place.split("."):
                found = found[int(name) if name.isdigit() else name]
            each.load_state_dict(found)
            for state in each.state.values():
                if "step" in state and isinstance(each, geoopt.optim.RiemannianAdam):
                    state["step"] = int(state["step"])
        return self


def follow(ckpt: weights.Checkpoint, gradients: list[dict[str, Any]]) -> weights.Checkpoint:
    """The checkpoint after the same gradients in JAX."""
    params, state = ckpt.variables["params"], ckpt.opt_state
    for gradient in gradients:
        tree = jax.tree_util.tree_map_with_path(
            lambda at, p, g=gradient: jnp.asarray(g.get(".".join(str(k.key) for k in at), np.zeros_like(p))), params
        )
        updates, state = ckpt.optimizer.update(tree, state, params)
        params = optax.apply_updates(params, updates)
    return replace(ckpt, variables={"params": params}, opt_state=state)


def load(path: Path, **options: Any) -> weights.Checkpoint:
    return weights.load(path, arch="tree", manifolds=NAMED, **options)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_they_go_on_as_several_and_come_back_as_several(tmp_path: Path, pair: str, holder: str):
    """Shapes and the moments of points tell which has which: `plain` and `emb` have one shape."""
    past = Run(pair)
    past.go(3)
    ckpt = load(past.save(tmp_path / "x.pth", holder), **({} if "Adam," in pair else said(holder)))
    assert ckpt.report["converted"] == {"model": "model", "optimizer": ", ".join(PLACES[holder])}
    assert [entry["name"] for entry in ckpt.report["optimizers"].values()] == pair.split(", ")
    ckpt.save(tmp_path / "c")
    restored = weights.restore(tmp_path / "c")
    restored.export(tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth", weights_only=True))
    start, gradients = past.values(), past.go(STEPS)
    later = follow(restored, gradients)
    assert_close(flat(later.variables["params"]), past.values(), start)
    later.export(tmp_path / "z.pth")
    again = Run(pair).resumed(tmp_path / "z.pth", holder)
    again.steps, start = past.steps, past.values()
    past.go(2)
    again.go(2)
    assert_close(again.values(), past.values(), start)


def said(holder: str) -> dict[str, Any]:
    """RiemannianSGD keeps no moments that tell a point from a table."""
    return {"groups": {PLACES[holder][0]: [["emb", "shift"]]}}


@pytest.mark.parametrize("swapped", [False, True])
def test_each_follows_its_own_scheduler(tmp_path: Path, swapped: bool):
    """By the rates that each has set; one optimizer has a part of the parameters, and the bias is in none."""
    past = Run(scheduled=True, flat=["plain", "lin.weight"])
    past.go(3)
    states = [each.state_dict() for each in past.schedulers]
    past.save(tmp_path / "x.pth", "Lightning", lr_schedulers=states[::-1] if swapped else states)
    ckpt = load(tmp_path / "x.pth")
    kinds = {place: entry["scheduler"]["name"] for place, entry in ckpt.report["optimizers"].items()}
    assert kinds == dict(zip(PLACES["Lightning"], ["StepLR", "ExponentialLR"], strict=True))
    assert ckpt.report["not_converted"] == {}
    ckpt.export(tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth"))
    start, gradients = past.values(), past.go(STEPS)
    later = follow(ckpt, gradients)
    assert_close(flat(later.variables["params"]), past.values(), start)
    assert np.array_equal(later.variables["params"]["lin"]["bias"], past.values()["lin.bias"])
    later.export(tmp_path / "z.pth")
    back = torch.load(tmp_path / "z.pth")
    rates = [each["param_groups"][0]["lr"] for each in back["optimizer_states"]]
    np.testing.assert_allclose(rates, [each.param_groups[0]["lr"] for each in past.optimizers], rtol=1e-12)
    assert [each["last_epoch"] for each in back["lr_schedulers"]] == [8, 8]


def test_names_tell_schedulers_of_equal_rates_apart(tmp_path: Path):
    past = Run(scheduled=True)
    for each in past.optimizers:
        each.param_groups[0].update(lr=0.01, initial_lr=0.01)
    states = [lr_scheduler.StepLR(past.optimizers[0], 10).state_dict(), lr_scheduler.ExponentialLR(past.optimizers[1], 0.9).state_dict()]
    ckpt = load(past.save(tmp_path / "x.pth", sched_e=states[1], sched_h=states[0]), **groups(), updates_per_step=1)
    assert ckpt.report["converted"]["scheduler"] == "sched_h, sched_e"
    ckpt = load(past.save(tmp_path / "x.pth", b=states[1], a=states[0]), **groups(), updates_per_step=1)
    assert all("its rates are those of none of the optimizers, or of several" in ckpt.report["not_converted"][name] for name in "ab")
    assert "scheduler" not in ckpt.report["converted"]


def groups() -> dict[str, Any]:
    return {"groups": {"opt_h": [["emb", "shift"]], "opt_e": [["plain", "lin.*"]]}}


def test_what_nothing_says_is_asked_with_the_choices(tmp_path: Path, monkeypatch, capsys):
    """Two tables of one shape, and an optimizer whose buffers do not tell a point from a table."""
    past = Run("RiemannianSGD, AdamW")
    past.go(2)
    past.save(tmp_path / "x.pth")
    monkeypatch.chdir(tmp_path)
    tree = ["--arch", "tree", "--manifold", "emb=PoincareBall", "--manifold", "shift=PoincareBall"]
    code, _, err = run(monkeypatch, capsys, "convert", "x.pth", "--arch", "tree", "--manifold", "*=Euclidean", "--out", "c")
    assert code == 2
    assert (
        "the file has 2 optimizers: opt_h, opt_e. Nothing in it says whether 'plain' is in group 0 of opt_h or in group 0 of opt_e" in err
    )
    assert "--group opt_h=KEYS --group opt_e=KEYS" in err
    assert "--optimizer-at opt_h or opt_e" in err
    code, out, err = run(monkeypatch, capsys, "convert", "x.pth", *tree, "--group", "opt_h=emb,shift", "--out", "c")
    assert code == 0, err
    assert "optimizer opt_h RiemannianSGD, indices by option groups" in out
    assert "optimizer opt_e AdamW, indices by the shapes of the states" in out
    for place, kind in ("opt_h", "RiemannianSGD"), ("opt_e", "AdamW"):
        chosen = [*tree, "--optimizer-at", place, "--group", "emb,shift" if place == "opt_h" else "plain,lin.*"]
        code, out, err = run(monkeypatch, capsys, "inspect", "x.pth", *chosen, "--json")
        assert (code, json.loads(out)["optimizer"]["name"]) == (0, kind), err
        assert list(json.loads(out)["not_converted"]) == [{"opt_h": "opt_e", "opt_e": "opt_h"}[place]]
    code, out, err = run(monkeypatch, capsys, "inspect", "x.pth", *tree)
    assert (code, "optimizer opt_e name: AdamW" in out) == (0, True), err


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no place": ({"groups": [["emb", "shift"]]}, "groups are given, and the file has 2 optimizers. Give the keys of each with --group"),
    "another place": ({"groups": {"opt": [["emb"]]}}, "groups are given for 'opt'; the optimizers are opt_h, opt_e. Correct --group"),
    "twice": ({"groups": {"opt_h": [["emb", "shift"]], "opt_e": [["emb", "lin.*"]]}}, "the optimizers opt_h and opt_e both have 'emb'"),
    "a class without a place": ({"optimizer": "Adam"}, "Give one of --optimizer-class opt_h=Adam --optimizer-class opt_e=Adam"),
    "a class of none": ({"optimizer": {"opt": "Adam"}}, "a class is given for 'opt'; the optimizers are opt_h, opt_e"),
    "a wrong class": ({"optimizer": {"opt_e": "Adagrad"}}, "the optimizer at opt_e: the optimizer does not fit the model: optimizer is"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_contradicts_the_file_is_refused(tmp_path: Path, name: str):
    past = Run()
    past.go(2)
    options, message = WRONG[name]
    with pytest.raises((Usage, Unmatched)) as caught:
        load(past.save(tmp_path / "x.pth"), **options)
    assert message in str(caught.value)


def test_points_that_nobody_names_are_asked_for(tmp_path: Path):
    past = Run()
    past.go(2)
    with pytest.raises(Usage, match=r"optimizer at opt_h has moved points.* Name them with --manifold"):
        weights.load(past.save(tmp_path / "x.pth"), arch="tree", manifolds={"shift": PoincareBall})


def test_names_in_the_groups_and_classes_by_place(tmp_path: Path):
    """`param_names` stand before shapes; a class that the settings leave open is said for one."""
    past = Run()
    past.go(2)
    h, e = (each.state_dict() for each in past.optimizers)
    h["param_groups"][0]["param_names"] = POINTS
    e["param_groups"][0]["param_names"] = [k for k, _ in past.net.named_parameters() if k in FLAT]
    e["param_groups"][0].pop("decoupled_weight_decay")
    torch.save({"model": past.net.state_dict(), "opt_h": h, "opt_e": e}, tmp_path / "x.pth")
    with pytest.raises(Unmatched, match=r"the optimizer at opt_e: .*Adam and of AdamW.*--optimizer-class"):
        load(tmp_path / "x.pth")
    ckpt = load(tmp_path / "x.pth", optimizer={"opt_e": "AdamW"})
    assert [(plan.table, plan.source) for plan in ckpt.plans] == [("RiemannianAdam", "param_names"), ("AdamW", "param_names")]


def test_points_follow_a_curvature_that_the_other_optimizer_trains(tmp_path: Path):
    """The ball's curvature moves before the points where its optimizer stands first in the file, and after them where it stands last."""
    past = Run(learnable=True)
    past.go(3)
    ckpt = load(past.save(tmp_path / "x.pth"))
    assert "ball" in ckpt.variables["params"]
    start, gradients = past.values(), past.go(STEPS)
    assert_close(flat(follow(ckpt, gradients).variables["params"]), past.values(), start)
    tree = torch.load(tmp_path / "x.pth")
    torch.save({"model": tree["model"], "opt_e": tree["opt_e"], "opt_h": tree["opt_h"]}, tmp_path / "z.pth")
    other = follow(load(tmp_path / "z.pth"), gradients)
    assert not np.array_equal(other.variables["params"]["emb"], follow(ckpt, gradients).variables["params"]["emb"])


def test_verify_steps_with_all_of_them(tmp_path: Path):
    past = Run(scheduled=True)
    past.go(3)
    path = past.save(tmp_path / "x.pth", scheds=[each.state_dict() for each in past.schedulers])
    ckpt = load(path)
    rows = verify(ckpt, path, said=Said(arch="tree", manifolds=NAMED), types=("float64",))
    assert not failed(rows), [row for row in rows if not row.ok]
    assert {row.what for row in rows if row.level == "step"} == {"emb", "shift", *FLAT}
    wrong = replace(ckpt, plans=(replace(ckpt.plans[0], groups=[{**ckpt.plans[0].groups[0], "eps": 1e-3}]), *ckpt.plans[1:]))
    found = verify(wrong, path, said=Said(arch="tree", manifolds=NAMED), level="settings")
    assert any(row.what.startswith("opt_h: group 0, eps: 0.001 in the conversion") for row in found if not row.ok)
    faster = replace(ckpt, optimizer=optax.chain(ckpt.optimizer, optax.scale(1.001)), opt_state=(ckpt.opt_state, optax.EmptyState()))
    found = verify(faster, path, said=Said(arch="tree", manifolds=NAMED), types=("float64",))
    assert {row.what for row in found if row.level == "step" and not row.ok} == {"emb", "shift", *FLAT}


def test_what_an_option_said_is_named_by_verify(tmp_path: Path):
    past = Run("RiemannianSGD, AdamW")
    past.go(2)
    path = past.save(tmp_path / "x.pth")
    ckpt = load(path, groups={"opt_h": [["emb", "shift"]]})
    rows = verify(ckpt, path, said=Said(arch="tree", manifolds=NAMED), level="settings")
    assert not failed(rows), [row for row in rows if not row.ok]
    assert any(what.startswith("groups (taken from the conversion: give --group") for what in unverified(rows))
    wrong = verify(ckpt, path, said=Said(arch="tree", manifolds=NAMED, groups={"opt_h": [["plain", "shift"]]}), level="settings")
    assert any("opt_h: group 0, parameters" in row.what for row in wrong if not row.ok)


def test_an_architecture_with_two_optimizers(tmp_path: Path):
    """The curvature by one, the rest by the other, as the parts of a model that people train at different rates."""
    model, config = cases_hyptorch.module_of("trained"), {"c": 0.6}
    rest = [p for k, p in model.named_parameters() if k != "tp.c"]
    model.tp.xp.data *= 0.3
    optimizers = [torch.optim.SGD([model.tp.c], lr=1e-3, momentum=0.9), torch.optim.AdamW(rest, lr=1e-3)]
    for each in optimizers:
        for p in [p for group in each.param_groups for p in group["params"]]:
            p.grad = 0.01 * torch.ones_like(p)
        each.step()
    torch.save({"state_dict": model.state_dict(), "optimizer_states": [o.state_dict() for o in optimizers]}, tmp_path / "x.ckpt")
    ckpt = weights.load(tmp_path / "x.ckpt", config=config)
    assert [plan.table for plan in ckpt.plans] == ["SGD", "AdamW"]
    assert list(ckpt.plans[0].keys.values()) == ["tp.c"]
    rows = verify(ckpt, tmp_path / "x.ckpt", said=Said(config=config), types=("float64",))
    assert not failed(rows), [row for row in rows if not row.ok]
    assert any(row.level == "step" and row.verified for row in rows)
