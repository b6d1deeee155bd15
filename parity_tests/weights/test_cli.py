"""The shell: exit codes, messages of one line, nothing written on error, and how quickly help comes."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import torch
import typer

from parity_tests.weights.helpers import Call, Net, assert_deep_equal, run, trained
from weights import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path):
    net, opt = trained()
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict()}, tmp_path / "x.pth")
    return tmp_path / "x.pth"


OPTIONS = ("--arch", "tree", "--manifold", "emb=PoincareBall:0.7")


def test_convert_export_diff(monkeypatch, capsys, tmp_path, file):
    code, out, _ = run(monkeypatch, capsys, "convert", file, "--out", tmp_path / "out", *OPTIONS)
    assert code == 0
    assert "RiemannianAdam" in out
    assert run(monkeypatch, capsys, "export", tmp_path / "out", tmp_path / "y.pth")[0] == 0
    assert_deep_equal(torch.load(file), torch.load(tmp_path / "y.pth"))
    code, out, _ = run(monkeypatch, capsys, "diff", file, tmp_path / "out", "--json")
    assert code == 0
    assert all(row["equal"] for row in json.loads(out))
    code, out, _ = run(monkeypatch, capsys, "convert", file, "--out", tmp_path / "bare", "--no-optimizer", "--json", *OPTIONS)
    assert (code, "optimizer" in json.loads(out)) == (0, False)
    net, _ = trained(steps=4)
    torch.save(net.state_dict(), tmp_path / "z.pth")
    code, out, _ = run(monkeypatch, capsys, "diff", file, tmp_path / "z.pth")
    assert code == 1
    assert "lin.weight" in out


@pytest.mark.parametrize("out", ["out.safetensors", "out.npz"])
def test_one_file_serves_as_a_folder_does(monkeypatch, capsys, tmp_path, file, out):
    assert run(monkeypatch, capsys, "convert", file, "--out", tmp_path / out, *OPTIONS)[0] == 0
    assert (tmp_path / out).is_file()
    assert run(monkeypatch, capsys, "diff", file, tmp_path / out)[0] == 0
    assert run(monkeypatch, capsys, "verify", file, "--converted", tmp_path / out, "--level", "bits")[0] == 0
    assert run(monkeypatch, capsys, "export", tmp_path / out, tmp_path / "y.pth")[0] == 0
    assert_deep_equal(torch.load(file), torch.load(tmp_path / "y.pth"))
    code, _, err = run(monkeypatch, capsys, "inspect", tmp_path / out)
    assert code == 2
    assert "hyperport export" in err
    code, _, err = run(monkeypatch, capsys, "export", file, tmp_path / "z.pth")
    assert code == 3
    assert "not a converted checkpoint" in err
    assert not (tmp_path / "z.pth").exists()


def test_inspect(monkeypatch, capsys, tmp_path, file):
    code, out, _ = run(monkeypatch, capsys, "inspect", file, *OPTIONS)
    assert code == 0
    assert "params/lin/weight" in out
    code, out, _ = run(monkeypatch, capsys, "inspect", file, "--json")
    assert code == 0
    assert "the keys match none of the architectures" in json.loads(out)["problem"]
    assert re.search("hyperport scaffold.*docs/guide/own_model.md.*--arch tree", json.loads(out)["problem"])
    torch.save(dict(Net().named_parameters()), tmp_path / "m.pth")
    assert "PoincareBall(0.7)" in run(monkeypatch, capsys, "inspect", tmp_path / "m.pth", "--arch", "tree")[1]


def test_verify_bits(monkeypatch, capsys, tmp_path, file):
    code, out, _ = run(monkeypatch, capsys, "verify", file, *OPTIONS, "--level", "bits", "--json")
    assert code == 0, out
    assert json.loads(out)[0]["ok"]
    assert run(monkeypatch, capsys, "convert", file, "--out", tmp_path / "out", *OPTIONS)[0] == 0
    net, opt = trained(steps=4)
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict()}, file)
    code, out, _ = run(monkeypatch, capsys, "verify", file, "--converted", tmp_path / "out", "--level", "bits")
    assert code == 1
    assert "FAILED" in out


def bad_files(folder):
    (folder / "text.pth").write_text("hello")
    torch.save({"w": Call(print, "x")}, folder / "calls.pth")
    torch.save({"a": torch.ones(2)}, folder / "other.pth")
    torch.save({"p": torch.tensor([[0.3, 0.2], [0.9, 0.9]])}, folder / "far.pth")
    torch.save({"a": torch.tensor([1.0, float("nan")])}, folder / "nan.pth")
    data = (folder / "other.pth").read_bytes()
    (folder / "cut.pth").write_bytes(data[: len(data) // 2])
    with zipfile.ZipFile(folder / "zip.pth", "w") as archive:
        archive.writestr("a/readme", b"x")
    (folder / "broken.json").write_text("{")
    return folder


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["text.pth"], 3, "not a checkpoint"),
        (["absent.pth"], 3, "No such file"),
        (["cut.pth"], 3, "damaged or cut off"),
        (["zip.pth"], 3, "without data.pkl"),
        (["calls.pth"], 4, "print"),
        (["other.pth"], 5, "--arch tree"),
        (["other.pth", "--arch", "hgat"], 5, "not those of hgat"),
        (["nan.pth", "--arch", "tree"], 5, "'a' contains nan at (1,)"),
        (["other.pth", "--arch", "nothing"], 2, "no architecture is called"),
        (["other.pth", "--arch", "tree", "--config", "absent.json"], 2, "cannot be opened"),
        (["other.pth", "--arch", "tree", "--config", "broken.json"], 3, "not JSON"),
        (["other.pth", "--arch", "tree", "--manifold", "a=Banana"], 2, "does not name a manifold"),
        (["other.pth", "--arch", "tree", "--manifold", "b=Euclidean"], 2, "'b', but no parameter"),
        (
            ["far.pth", "--arch", "tree", "--manifold", "p=PoincareBall:0.7"],
            5,
            "'p' contains a point that is not on its PoincareBall, at (1,)",
        ),
        (["far.pth", "--arch", "tree", "--manifold", "p=Lorentz:0.7"], 5, "'p' contains a point that is not on its Lorentz, at (0,)"),
        (["other.pth", "--arch", "tree", "--curvature", "1"], 2, "has no curvature of its own"),
        (["other.pth", "--arch", "tree", "--out", "absent/out"], 6, "its folder does not exist"),
        (["other.pth", "--no-such-option"], 2, "No such option"),
    ],
)
def test_errors_are_one_line_and_write_nothing(monkeypatch, capsys, tmp_path, args, code, message):
    monkeypatch.chdir(bad_files(tmp_path))
    before = sorted(p.name for p in tmp_path.iterdir())
    found, out, err = run(monkeypatch, capsys, "convert", *args, *(() if "--out" in args else ("--out", "out")))
    assert found == code
    assert message in err
    assert "Traceback" not in err
    assert not out
    if code != 2 or err.startswith("error"):
        assert len(err.strip().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", ["convert", "embed", "plot"])
def test_help_of_a_command_has_an_example(command):
    args = [sys.executable, "-X", "importtime", "-m", "weights.cli", command, "--help"]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    assert f"Example: hyperport {command}" in done.stdout
    assert not {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()} & {"jax", "torch", "numpy", "matplotlib"}


def test_version_is_that_of_the_installed_package():
    args = [sys.executable, "-X", "importtime", "-m", "weights.cli", "--version"]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    assert done.stdout == f"hyperport {metadata.version('hyperport')}\n"
    assert not {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()} & {"jax", "torch", "numpy", "matplotlib"}


def test_help_is_quick_and_documents_the_codes():
    times = []
    for _ in range(3):
        start = time.process_time(), time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "weights.cli", "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        times.append(time.perf_counter() - start[1])
    assert "Exit codes" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"jax", "torch", "flax", "optax", "numpy", "orbax"}
    assert min(times) < 2, times  # 0.27 s on an idle machine; others run beside this test


def test_every_option_that_a_message_names_exists():
    """In all strings of the sources: a remedy that is not there is no remedy."""
    commands = typer.main.get_command(cli.app).commands.values()  # pyright: ignore[reportAttributeAccessIssue]
    known = {option for command in commands for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    named = {}
    for path in [*(ROOT / "weights").rglob("*.py"), *(ROOT / "port_jax" / "optim" / "from_torch").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.update(dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", node.value), path.name))
    assert len(named) > 12
    assert {option: where for option, where in named.items() if option not in known | {"--version", "--help", "--debug"}} == {}
