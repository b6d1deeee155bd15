"""The recorder: what it keeps of a program, and that the program is as it was."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.models.graph_models import FEATURES
from parity_tests.weights.proof.program import Program, recorder
from weights.proof.witness import script
from weights.proof.witnessed import projected


def test_the_program_is_as_it_was(tmp_path: Path):
    """Parameters, gradients, the optimizer's state and the mode: a recorded run and one that is not are the same, bit by bit."""
    runs = []
    for record in (True, False):
        (tmp_path / str(record)).mkdir()
        program = Program(tmp_path / str(record), dropout=0.0)
        if record:
            program.record(steps=3)
        else:
            for _ in range(4):
                program.step()
        program.step()
        runs.append(program)
    one, two = runs
    assert one.model.training
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.grad, b.grad)
    for a, b in zip(one.optimizer.state.values(), two.optimizer.state.values(), strict=True):
        assert all(torch.equal(torch.as_tensor(a[name]), torch.as_tensor(b[name])) for name in a)
    assert one.scheduler.state_dict() == two.scheduler.state_dict()


class Boxed(torch.nn.Parameter):
    """As HypLL's ManifoldParameter: an object whose numbers and gradient are those of the tensor that it has."""

    def __new__(cls, inner: torch.Tensor):
        made = super().__new__(cls, torch.zeros(()))
        made.__dict__["tensor"] = torch.nn.Parameter(inner)
        return made


def test_parameters_and_outputs_around_a_tensor_are_their_tensor(tmp_path: Path):
    box = Boxed(torch.tensor([[0.1, 0.2], [0.3, -0.1]]))
    inner = vars(box)["tensor"]
    optimizer = torch.optim.SGD([inner], lr=0.1)
    optimizer.param_groups[0]["params"] = [box]
    optimizer.step = lambda: inner.data.sub_(inner.grad, alpha=0.1)  # pyright: ignore[reportAttributeAccessIssue]
    witness = recorder(tmp_path).Witness(tmp_path / "w.npz", {"z": box})
    witness.outputs(points=lambda i: SimpleNamespace(tensor=inner * 2)).watch(optimizer, 1)
    inner.grad = torch.ones(2, 2)
    start = inner.detach().numpy().copy()
    optimizer.step()
    with np.load(tmp_path / "w.npz") as found:
        np.testing.assert_array_equal(found["outputs/points"], 2 * start)
        np.testing.assert_array_equal(found["steps/0/parameters/z"], start - np.float32(0.1))
        assert json.loads(str(found["meta"]))["groups"] == [["z"]]


class Shifted(torch.nn.Module):
    """x + w, where w is 0, so that moving w by a unit in its last place changes nothing."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.w


def test_the_drift_has_rounding_inside_of_the_model(tmp_path: Path):
    """Of a module with parameters: the identity beside it rounds nothing."""
    x = torch.as_tensor(draws.rng(0).normal(size=(5, 3)), dtype=torch.float32)
    largest, drifts = float(x.abs().max()), {}
    for name, model in (("shifted", Shifted()), ("identity", torch.nn.Sequential(torch.nn.Identity()))):
        recorder(tmp_path).Witness(tmp_path / f"{name}.npz", model, x=x).outputs(y=lambda i, model=model: model(i.x))
        drifts[name] = json.loads(str(np.load(tmp_path / f"{name}.npz")["meta"]))["drift"]["outputs/y"]
    assert drifts["identity"] == 0
    assert 0.1 * largest * 2**-23 < drifts["shifted"] < 2 * largest * 2**-23


def test_without_float64_the_notes_say_why(tmp_path: Path):
    program = Program(tmp_path)
    model, module = program.model, recorder(tmp_path)
    turn = torch.eye(FEATURES)
    module.Witness(tmp_path / "w.npz", model, program.path, x=program.x).outputs(embeddings=lambda i: model.encode(i.x @ turn, None))
    meta = json.loads(str(np.load(tmp_path / "w.npz")["meta"]))
    assert meta["notes"][0].startswith("no float64: ")
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_large_arrays_are_kept_as_products_that_see_a_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = recorder(tmp_path)
    monkeypatch.setattr(module, "LARGE", 10)
    array = draws.rng(4).standard_normal((7, 5)).astype(np.float32)
    parts = module._parts(array, "steps/0/parameters/emb")
    assert {at.partition("@")[2]: part.shape for at, part in parts.items()} == {"rows": (7,), "columns": (5,)}
    for at, part in parts.items():
        np.testing.assert_array_equal(projected(array, at), part)
        assert not np.allclose(projected(array[::-1], at), part, rtol=1e-3)


def test_the_script_stands_alone():
    """The grammar of Python 3.6, imports of the standard library, numpy and torch, and no syntax or call that torch 1.0 lacks."""
    tree = ast.parse(script(), feature_version=(3, 6))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"hashlib", "json", "numpy", "os", "platform", "sys", "torch"}
    assert [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)] == ["types"]
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "torch"}
    assert used <= {"__version__", "as_tensor", "autograd", "float32", "float64", "is_tensor", "zeros_like"}
