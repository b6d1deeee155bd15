"""Parameters of which the optimizer has no state: they move from their first gradient on, or are fixed, as is said."""

import jax
import numpy as np
import optax
import pytest
import torch

import weights
from parity_tests import draws
from parity_tests.weights.helpers import assert_deep_equal, run
from weights.errors import Unmatched, Usage
from weights.proof.reading import Said, read_anew

MAKE = {
    "Adam": lambda p: torch.optim.Adam(p, 0.03, (0.8, 0.97), 1e-4, 0.1),
    "SGD": lambda p: torch.optim.SGD(p, 0.03, 0.8, 0.3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.02, 0.9, momentum=0.7),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.05, 0.1),
}


class Run:
    """Two parameters, of which the second has its first gradient after two steps."""

    def __init__(self, name, path):
        rng = draws.rng(3)
        self.params = {key: torch.nn.Parameter(torch.tensor(rng.normal(size=4))) for key in ("a", "b")}
        self.optimizer = MAKE[name](self.params.values())
        for step in range(2):
            self.go(step, "a")
        torch.save({"model": {k: p.detach().clone() for k, p in self.params.items()}, "optimizer": self.optimizer.state_dict()}, path)

    def go(self, step, *keys):
        """One step, and its gradients."""
        grads = {key: draws.rng(step).normal(size=4) for key in keys}
        for key, p in self.params.items():
            p.grad = torch.tensor(grads[key]) if key in keys else None
        self.optimizer.step()
        return grads


@pytest.mark.parametrize("name", MAKE)
def test_they_move_as_in_torch_from_their_first_gradient_on(name, tmp_path):
    theirs = Run(name, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", without_state="trained")
    assert "assumed" not in ckpt.report
    ckpt.save(tmp_path / "out.npz")
    ckpt = weights.restore(tmp_path / "out.npz")
    ckpt.export(tmp_path / "back.pth")
    assert_deep_equal(*(torch.load(tmp_path / each, weights_only=True) for each in ("x.pth", "back.pth")))
    ours, state = ckpt.variables["params"], ckpt.opt_state
    for step, keys in ((2, "a"), (3, "ab"), (4, "ab")):
        grads = theirs.go(step, *keys)
        updates, state = ckpt.optimizer.update({"a": grads["a"], "b": grads.get("b")}, state, ours)
        ours = optax.apply_updates(ours, updates)
    for key, value in theirs.params.items():
        np.testing.assert_allclose(ours[key], value.detach(), rtol=1e-12)


def test_what_is_assumed_is_said_and_strictly_refused(tmp_path, monkeypatch, capsys):
    Run("Adam", tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree")
    assert ckpt.report["assumed"]["optimizer"].startswith("b: without a state, taken as fixed. If trained")
    grads = jax.tree.map(np.ones_like, ckpt.variables["params"])
    assert not np.any(ckpt.optimizer.update(grads, ckpt.opt_state, ckpt.variables["params"])[0]["b"])
    call = ("convert", tmp_path / "x.pth", "--arch", "tree", "--strict", "--out", tmp_path / "out.npz")
    code, _, errors = run(monkeypatch, capsys, *call)
    assert code == Unmatched.exit_code
    assert "something would be assumed: optimizer (b: without a state" in errors
    assert run(monkeypatch, capsys, *call, "--without-state", "none")[0] == Usage.exit_code
    assert run(monkeypatch, capsys, *call, "--without-state", "fixed")[0] == 0


def test_a_comparison_takes_what_was_said(tmp_path):
    """And says that it was taken from the conversion."""
    Run("Adam", tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", without_state="trained")
    reading = read_anew(tmp_path / "x.pth", ckpt, Said())
    assert reading.checkpoint.plan.parts == [["a", "b"]]
    assert reading.unconfirmed["parameters without a state"] == "taken from the conversion: give --without-state"
