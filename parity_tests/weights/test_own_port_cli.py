"""The commands on a model of one's own: --port in each of them, scaffold, and what a person gets to read where something is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from pathlib import Path

import jax
import pytest
import torch

import weights
from examples.own_model.original import trained
from parity_tests.weights.helpers import assert_deep_equal, run
from parity_tests.weights.standard_modules import Zoo
from weights.port_names import imported
from weights.views.scaffold import scaffold

ROOT = Path(__file__).parents[2]
PORT = ("--port", "examples.own_model.port:PORT")
MISTAKES = {
    "a file": ("examples/own_model/port.py:PORT", "Write examples.own_model.port:PORT"),
    "no name": ("examples.own_model.port", "Write examples.own_model.port:NAME"),
    "no module": ("examples.no_such:PORT", "there is no module examples.no_such"),
    "no such name": ("examples.own_model.port:POTR", "Its ports are PORT"),
    "another thing": ("examples.own_model.port:Net", "has a type there"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.pth"
    torch.save(trained(3)[1], path)
    return path


def test_each_command_takes_a_port(monkeypatch, capsys, tmp_path: Path, file: Path):
    """The whole way, with batch norm, a trained curvature, RiemannianAdam with decay, and StepLR."""
    out = tmp_path / "out"
    code, text, _ = run(monkeypatch, capsys, "inspect", file, *PORT, "--json")
    assert code == 0
    becomes = {row["key"]: row["becomes"] for row in json.loads(text)["tensors"]}
    assert becomes["norm.running_var"] == "batch_stats/norm/var"
    assert becomes["planes.ball.isp_c"] == "ball.isp_c"
    code, text, _ = run(monkeypatch, capsys, "convert", file, *PORT, "--out", out)
    assert code == 0
    assert "2 buffers" in text
    assert run(monkeypatch, capsys, "verify", file, *PORT, "--converted", out, "--level", "bits")[0] == 0
    code, _, text = run(monkeypatch, capsys, "export", out, tmp_path / "back.pth")
    assert code == 2
    assert "Give it with --port package.module:NAME" in text
    assert run(monkeypatch, capsys, "export", out, tmp_path / "back.pth", *PORT)[0] == 0
    assert_deep_equal(torch.load(file), torch.load(tmp_path / "back.pth"))
    code, text, _ = run(monkeypatch, capsys, "embed", out, *PORT, "--key", "planes.points", "--out", tmp_path / "points.csv")
    assert code == 0, text
    assert "PoincareBall" in text
    for wrong, remedy in (((*PORT, "--json"), "Leave out --json"), (("--arch", "tree"), "Give --port")):
        code, _, text = run(monkeypatch, capsys, "verify", file, *wrong, "--mutants", "--level", "bits")
        assert code == 2
        assert remedy in text
    code, _, text = run(monkeypatch, capsys, "inspect", file, *PORT, "--arch", "tree")
    assert code == 0  # inspect shows the reason
    assert run(monkeypatch, capsys, "convert", file, *PORT, "--arch", "tree", "--out", tmp_path / "b")[0] == 2


@pytest.mark.slow
def test_mutation_mode_in_the_shell(monkeypatch, capsys, file: Path):
    code, text, _ = run(monkeypatch, capsys, "verify", file, *PORT, "--level", "bits", "--mutants")
    assert code == 0
    assert re.search(r"^(\d+) of \1 planted errors would show on these inputs\.$", text, re.MULTILINE), text


@pytest.mark.parametrize("name", MISTAKES)
def test_a_name_that_is_no_port(name: str):
    given, message = MISTAKES[name]
    with pytest.raises(weights.Usage, match=message):
        imported(given)


def test_a_port_whose_code_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "broken_port.py").write_text("import no_such_library\n")
    (tmp_path / "failing_port.py").write_text("x = 1\nraise RuntimeError('of my own')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        weights.Usage, match=r"cannot be imported: ModuleNotFoundError: No module named 'no_such_library'.*broken_port.py:1"
    ):
        imported("broken_port:PORT")
    with pytest.raises(weights.Usage, match=r"RuntimeError: of my own at failing_port.py:2"):
        imported("failing_port:PORT")


@pytest.mark.parametrize("kind", ["state", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("module", "zoo"))])
def test_a_scaffold_runs_as_written(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """It converts the file that it was written from, and says what is left to do. A pickled module says its manifolds."""
    net, saved = trained(2)
    found = {"state": saved, "module": {"model": net, "optimizer": saved["optimizer"]}, "zoo": Zoo().state_dict()}[kind]
    torch.save(found, tmp_path / "m.pth")
    monkeypatch.chdir(tmp_path)
    own = f"scaffold_of_{kind}"
    code, text, _ = run(monkeypatch, capsys, "scaffold", "m.pth", "--out", f"{own}.py")
    assert code == 0
    assert "places to fill in" in text
    assert run(monkeypatch, capsys, "scaffold", "m.pth", "--out", f"{own}.py")[0] == 6
    assert run(monkeypatch, capsys, "scaffold", "m.pth", "--out", f"{own}.py", "--force")[0] == 0
    port = imported(f"{own}:PORT")
    ckpt = weights.load("m.pth", port=port, optimizer=False)
    if kind != "zoo":
        assert ckpt.variables["batch_stats"]["norm"]["var"].shape == (8,)
        spaces = port.manifolds(ckpt.variables["params"])  # the curvature is trained, and they follow it
        assert spaces.keys() == {"first/bias", "second/bias", "planes/points"}
        assert {float(ball.c) for ball in spaces.values()} == {float(jax.nn.softplus(ckpt.variables["params"]["ball"]["isp_c"]))}
    done = subprocess.run([sys.executable, f"{own}.py"], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)})
    assert "TODO: an array as the model takes it" in done.stdout
    assert "GUESS" in done.stdout


def test_a_scaffold_stops_the_gradient_of_a_row_of_padding(tmp_path: Path):
    """torch makes that row 0 and keeps it so; the file says nothing else of padding_idx. A manifold of a fixed curvature is asked for."""
    net = torch.nn.ModuleDict({"embed": torch.nn.Embedding(6, 3, padding_idx=2), "emb": torch.nn.Embedding(4, 3)})
    torch.save(net.state_dict(), tmp_path / "m.pth")
    text = scaffold(tmp_path / "m.pth", tmp_path / "own.py")
    assert "h = jnp.where((ids == 2)[..., None], jax.lax.stop_gradient(rows), rows)  # GUESS: row 2 is 0 in the file" in text
    assert "h = nn.Embed(4, 3, name='emb')(jnp.zeros(1, int))  # TODO: GUESS Embedding, without padding_idx" in text
    monkey = types.ModuleType("own_scaffold")
    exec(compile(text, "own.py", "exec"), sys.modules.setdefault("own_scaffold", monkey).__dict__)
    assert weights.load(tmp_path / "m.pth", port=monkey.PORT).variables["params"]["embed"]["embedding"].shape == (6, 3)


def test_the_example_is_short():
    assert len((ROOT / "examples" / "own_model" / "port.py").read_text().splitlines()) < 60
