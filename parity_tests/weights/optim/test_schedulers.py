"""A file's scheduler: the rates after conversion are those that torch would go on with, and the way back has them too."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

import weights
from parity_tests.weights.helpers import Net, assert_deep_equal, trained
from parity_tests.weights.helpers import run as shell
from parity_tests.weights.optim.going_on import BALL, STEPS, assert_close, flat, target
from port_jax.optim.from_torch.schedulers import scheduler_of
from reference_torch.optim.from_torch.schedulers import resumed
from reference_torch.optim.schedules import LinearWarmupCosineDecayLR
from weights.errors import Unmatched, Usage
from weights.optim.file_scheduler import scheduled
from weights.optim.forms import plain
from weights.proof.verify import verify

SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 7, 7], 0.5),
    "SWALR": lambda o: SWALR(o, 0.04, 14),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 5, 1e-3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.02, 20),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 6), lr_scheduler.ExponentialLR(o, 0.8)], [6]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(o, 2, 0.7), lr_scheduler.ExponentialLR(o, 0.9)]),
    "LinearWarmupCosineDecayLR": lambda o: LinearWarmupCosineDecayLR(o, 20, 6),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=2, factor=0.5),
}
METRIC = np.arange(40) + np.sin(np.arange(40))


class Run:
    """A Net trained by torch with a scheduler that steps after every `each` updates."""

    def __init__(self, scheduler, each=1, optimizer=None):
        self.net, self.each, self.steps = Net(dtype=torch.float64), each, 0
        self.optimizer = (optimizer or (lambda p: geoopt.optim.RiemannianAdam(p, lr=1e-2)))(self.net.parameters())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.scheduler = scheduler(self.optimizer)

    def go(self, steps):
        """The gradients of each step."""
        found = []
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.net.loss(target(self.steps)).backward()
            found.append({k: None if p.grad is None else p.grad.numpy().copy() for k, p in self.net.named_parameters()})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.optimizer.step()
                self.steps += 1
                if self.steps % self.each == 0:
                    plateau = isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau)
                    self.scheduler.step(*([METRIC[self.steps]] if plateau else []))
        return found

    def values(self):
        return {k: v.numpy().copy() for k, v in self.net.state_dict().items()}

    def save(self, path, name="lr_scheduler", **more):
        state = self.scheduler.state_dict()
        tree = {"model": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), name: [state] if name.endswith("s") else state}
        torch.save(tree | more, path)


def follow(ckpt, gradients, begun, each=1):
    """The checkpoint after the same gradients in JAX."""
    params, state = ckpt.variables["params"], ckpt.opt_state
    move = jax.jit(ckpt.optimizer.update)
    for n, gradient in enumerate(gradients, begun + 1):
        tree = jax.tree_util.tree_map_with_path(lambda at, p, g=gradient: _gradient(g, at, p), params)
        updates, state = move(
            tree, state, params, value=METRIC[n] if n % each == 0 and ckpt.plan.timing["name"].startswith("Red") else None
        )
        params = optax.apply_updates(params, updates)
    return replace(ckpt, variables={"params": params}, opt_state=state)


def counters(state):
    """What a scheduler counts; a plateau's last_epoch, which it does not use, left out."""
    names = ("best", "num_bad_epochs", "cooldown_counter", *(() if "best" in state else ("last_epoch", "_step_count")))
    return [{name: state[name] for name in names if name in state}, *map(counters, state.get("_schedulers", ()))]


def _gradient(gradients, at, p):
    found = gradients[".".join(str(jax.tree_util.keystr((k,), simple=True)) for k in at)]
    return jnp.zeros_like(p) if found is None else jnp.asarray(found)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_rates_go_on_and_come_back(tmp_path, name):
    """As far as torch from the same file; restored from disk too; written back, torch goes on from there."""
    run = Run(SCHEDULERS[name])
    run.go(STEPS + 1)
    run.save(tmp_path / "x.pth")
    weights.load(tmp_path / "x.pth", arch="tree", manifolds=BALL).save(tmp_path / "out")
    ckpt = weights.restore(tmp_path / "out")
    told = {"name": name, "steps": STEPS + 1, "updates_per_step": 1, "rates_follow": True}
    by = {} if name.startswith("Reduce") else {"updates_per_step_by": "5 updates in 5 steps of the scheduler"}
    assert ckpt.report["optimizer"]["scheduler"] == {**told, **by}
    ckpt.export(tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth", weights_only=False), torch.load(tmp_path / "y.pth", weights_only=False))
    start, rate = run.values(), run.optimizer.param_groups[0]["lr"]
    later = follow(ckpt, run.go(STEPS), STEPS + 1)
    assert_close(flat(later.variables["params"]), run.values(), start)
    assert abs(run.optimizer.param_groups[0]["lr"] - rate) > 1e-3 * rate
    later.export(tmp_path / "z.pth")
    back = torch.load(tmp_path / "z.pth", weights_only=False)
    group = run.optimizer.param_groups[0]
    np.testing.assert_allclose(back["optimizer"]["param_groups"][0]["lr"], group["lr"], rtol=1e-12)
    np.testing.assert_allclose(back["optimizer"]["param_groups"][0]["betas"], group["betas"], rtol=1e-12)
    assert counters(back["lr_scheduler"]) == counters(run.scheduler.state_dict())
    again = Run(SCHEDULERS[name])
    again.net.load_state_dict(back["model"])
    again.optimizer.load_state_dict(back["optimizer"])
    for state in again.optimizer.state.values():
        state["step"] = int(state["step"])
    again.scheduler.load_state_dict(back["lr_scheduler"])
    again.steps = run.steps
    start, remade = run.values(), Run(SCHEDULERS[name], optimizer=lambda p: geoopt.optim.RiemannianAdam(p, lr=1e-2))
    remade.optimizer.load_state_dict(again.optimizer.state_dict())
    remade.scheduler = resumed(json.loads(json.dumps(plain(back["lr_scheduler"]))), remade.optimizer, lambda s: scheduler_of(s).name)
    remade.net.load_state_dict(back["model"])
    remade.steps = run.steps
    for state in remade.optimizer.state.values():
        state["step"] = int(state["step"])
    run.go(STEPS)
    again.go(STEPS)
    remade.go(STEPS)
    assert_deep_equal(remade.optimizer.state_dict(), again.optimizer.state_dict())
    assert_close(again.values(), run.values(), start, 1e-9)
    assert again.optimizer.param_groups[0]["lr"] == pytest.approx(run.optimizer.param_groups[0]["lr"], rel=1e-11)


@pytest.mark.slow  # models/test_verify.py takes the file's steps, too
def test_verify_goes_on_with_the_files_scheduler(tmp_path):
    """In the middle of its two updates a step, and not without it."""
    run = Run(SCHEDULERS["OneCycleLR"], each=2)
    run.go(5)
    run.save(tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds=BALL, updates_per_step=2)
    assert {row.ok for row in verify(ckpt, tmp_path / "x.pth")} == {True}
    tree = torch.load(tmp_path / "x.pth", weights_only=False)
    torch.save({key: value for key, value in tree.items() if key != "lr_scheduler"}, tmp_path / "y.pth")
    other = weights.load(tmp_path / "y.pth", arch="tree", manifolds=BALL)
    still = replace(ckpt, optimizer=other.optimizer, opt_state=other.opt_state)
    wrong = {row.level for row in verify(still, tmp_path / "x.pth") if not row.ok}
    assert wrong == {"settings", "step"}


@pytest.mark.parametrize("name", ["lr_schedulers", "scheduler"])
def test_epochs_of_several_updates(tmp_path, name):
    """Two updates a step: told by the counts; an option where they leave it open, and without it the report says so."""
    run = Run(SCHEDULERS["StepLR"], each=2)
    run.go(4)
    run.save(tmp_path / "x.pth", name)
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds=BALL)
    assert ckpt.report["optimizer"]["scheduler"]["updates_per_step"] == 2
    start = run.values()
    assert_close(flat(follow(ckpt, run.go(4), 4, 2).variables["params"]), run.values(), start)
    run.go(1)
    run.save(tmp_path / "x.pth", name)
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds=BALL)
    told = ckpt.report["optimizer"]["scheduler"]
    assert not told["rates_follow"]
    assert (
        "4 steps of the scheduler and 9 updates do not show how many updates lie between two steps: give updates_per_step="
        in told["problem"]
    )
    given = weights.load(tmp_path / "x.pth", arch="tree", manifolds=BALL, updates_per_step=2)
    assert given.report["optimizer"]["scheduler"]["rates_follow"]
    assert float(ckpt.plan.groups[0]["lr"]) == run.optimizer.param_groups[0]["lr"]


def test_a_count_that_only_the_file_has(tmp_path):
    """torch's SGD counts nothing; Lightning keeps global_step."""
    run = Run(SCHEDULERS["StepLR"], each=2, optimizer=lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9))
    run.go(4)
    run.save(tmp_path / "x.pth", "lr_schedulers")
    problem = weights.load(tmp_path / "x.pth", arch="tree").report["optimizer"]["scheduler"]["problem"]
    assert "no updates that the optimizer has counted" in problem
    run.save(tmp_path / "x.pth", "lr_schedulers", global_step=4)
    ckpt = weights.load(tmp_path / "x.pth", arch="tree")
    start = run.values()
    assert_close(flat(follow(ckpt, run.go(4), 4, 2).variables["params"]), run.values(), start)


def test_what_cannot_follow_is_reported_with_what_to_pass(tmp_path):
    run = Run(lambda o: lr_scheduler.LambdaLR(o, lambda n: 0.9**n))
    run.go(3)
    run.save(tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds=BALL)
    problem = ckpt.report["optimizer"]["scheduler"]["problem"]
    assert "LambdaLR's function is not in its state: give lr_lambda=; pass what is missing to from_torch(" in problem
    weights.export(ckpt, tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth", weights_only=False), torch.load(tmp_path / "y.pth", weights_only=False))
    run = Run(SCHEDULERS["StepLR"])
    run.go(3)
    run.optimizer.param_groups[0]["lr"] = 0.3
    run.save(tmp_path / "x.pth")
    problem = weights.load(tmp_path / "x.pth", arch="tree", manifolds=BALL).report["optimizer"]["scheduler"]["problem"]
    assert "['lr'] is 0.3, its scheduler's after 3 steps is 0.005" in problem


@pytest.mark.parametrize("count", [float("inf"), "3", None, 2.5])
def test_a_count_that_is_no_whole_number_is_reported(count):
    """In the scheduler itself, and in a part of a chain."""
    for change, said in (
        ({"last_epoch": count}, count),
        ({"_schedulers": [{"last_epoch": count}]}, count),
        ({"_schedulers": [count]}, count),
    ):
        found = scheduled({"base_lrs": [0.1], "gamma": 0.9, **change}, 3, None)
        assert f"the scheduler's count of steps is {said!r}: " in found.problem
        assert found.done == 0


def test_settings_of_a_scheduler_that_torch_does_not_write_are_reported(tmp_path):
    """The rates stay as they are in the groups."""
    net, opt = trained()
    chain = {"_schedulers": [], "_last_lr": [0.01], "last_epoch": 3}
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict(), "scheduler": chain}, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds=BALL)
    timing = ckpt.report["optimizer"]["scheduler"]
    assert not timing["rates_follow"]
    assert "its settings are not those of a scheduler of torch (IndexError)" in timing["problem"]


STEP = {"step_size": 1, "gamma": 0.5, "base_lrs": [0.1], "_last_lr": [0.1]}


def test_a_number_of_updates_per_step_that_is_not_the_only_one_is_a_guess():
    """Those that can be are found by counting: epochs of n updates, with a step at the end or at the beginning of each, and a file saved
    after any update, before or after a step that is due."""
    for updates in range(1, 25):
        for done in range(1, updates + 1):
            found = scheduled({**STEP, "last_epoch": done}, updates, None)
            possible = {n for n in range(1, 30) if done in (updates // n, (updates - 1) // n)}
            possible |= {n for n in range(1, 30) if done == -(-updates // n) and updates > done}
            if updates % done:
                assert found.problem
                continue
            told = f"{min(possible)} or more" if done == 1 else f"from {min(possible)} to {max(possible)}"
            assert (told in found.assumed) if len(possible) > 1 else not found.assumed, (updates, done)


def test_the_place_within_an_epoch_is_said():
    """After seven updates, at three a step."""
    found = scheduled({**STEP, "last_epoch": 2}, 7, np.int64(3))
    assert "1 update after the end of 2 steps of 3: an epoch begins with the next update" in found.assumed
    assert "comes after 3 updates, where a run in torch that goes on in the middle of its epoch has it after 2" in found.assumed
    assert type(found.reported()["updates_per_step"]) is int
    assert not scheduled({**STEP, "last_epoch": 2}, 6, 3).assumed
    assert "6 updates before the end of 4 steps of 3" in scheduled({**STEP, "last_epoch": 4}, 6, 3).assumed


def test_a_guess_is_printed_and_strictly_refused(tmp_path, monkeypatch, capsys):
    """A file of the third epoch's end, before the scheduler's step; and no number of updates that is none is taken."""
    run = Run(SCHEDULERS["StepLR"], each=2)
    run.go(4)
    run.save(tmp_path / "x.pth", "scheduler")
    call = ("convert", tmp_path / "x.pth", "--arch", "tree", "--manifold", "emb=PoincareBall", "--out", tmp_path / "out")
    for wrong in ("0", "-3", "2.5"):
        assert shell(monkeypatch, capsys, *call, "--updates-per-step", wrong)[0] == Usage.exit_code
    code, _, errors = shell(monkeypatch, capsys, *call, "--strict")
    assert code == Unmatched.exit_code
    assert "something would be assumed: scheduler (2 updates per step of the scheduler, by 4 updates in 2 steps" in errors
    assert not (tmp_path / "out").exists()
    code, shown, _ = shell(monkeypatch, capsys, *call)
    assert code == 0
    assert "updates per step of StepLR: 2, by 4 updates in 2 steps of the scheduler" in shown
    assert "assumed of scheduler: 2 updates per step" in shown
    assert shell(monkeypatch, capsys, *call, "--force", "--strict", "--updates-per-step", "2")[0] == 0
