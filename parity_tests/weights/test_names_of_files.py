"""Names of files are any bytes: those that are no UTF-8 work in every command, and control characters reach no terminal."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch

import weights
from parity_tests.weights.files.round_trips import saved
from parity_tests.weights.helpers import run

ROOT = Path(__file__).parents[2]
NAMES = "a\udcffb", 'a\x1b[31mb\n"""\\', "a%20b#c?d"
"""No UTF-8; control characters, and what ends a docstring; and signs of an address."""
COMMANDS = (
    "inspect {file} {tree}",
    "convert {file} {tree} --out {name}c",
    "export {name}c {name}.back.pth",
    "diff {file} {name}.back.pth",
    "verify {file} {tree} --level bits --html {name}.html --report {name}.report.json",
    "embed {file} {tree} --key w --out {name}.csv",
    "scaffold {file} --out {name}.py",
)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_takes_any_name(name: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved(Path("x")).rename(f"{name}.pth")  # torch itself writes no such name
    words = {"file": [f"{name}.pth"], "tree": ["--arch", "tree", "--manifold", "*=Euclidean"]}
    for command in COMMANDS:
        args = [arg for word in command.split() for arg in words.get(word.strip("{}"), [word.replace("{name}", name)])]
        code, out, err = run(monkeypatch, capsys, *args)
        assert code == 0, (command, out, err)
        assert "\x1b" not in out + err
        assert not any("\ud800" <= sign <= "\udfff" for sign in out + err)
    code, _, err = run(monkeypatch, capsys, "export", f"{name}c", f"{name}.back.pth")
    assert (code, len(err.splitlines()), "\x1b" in err) == (6, 1, False)
    for file in (f"{name}.pth", f"{name}.back.pth"):
        with open(file, "rb") as opened:
            assert torch.load(opened)["w"].equal(torch.arange(6.0).reshape(3, 2))
    ast.parse(Path(f"{name}.py").read_text())


def test_lines_are_printed_in_one_place():
    """Nothing but the home of escapes prints what may contain a name."""
    plain = {"_say", "_print_json", "_version", "recorder"}
    found = set()
    for path in (ROOT / "weights").rglob("*.py"):
        if path.name == "recorder.py" or not re.search(r"typer\.echo\(|\bprint\(|stdout\.write\(", text := path.read_text()):
            continue
        for function in [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]:
            calls = [ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
            if {"typer.echo", "print", "sys.stdout.write"} & {*calls}:
                found.add(function.name)
    assert found == plain


@pytest.mark.parametrize("said", ["verify x.pth --seed -1", "verify x.pth --seed 4294967296", "plot x.pth --out x.png --label -1",
                                  "convert x.pth --out c --updates-per-step 0", "inspect x.pth --updates-per-step -2"])  # fmt: skip
def test_numbers_out_of_range_are_errors_of_usage(said: str, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, *said.split())
    assert (code, "Input should be" in err) == (2, True), err
    with pytest.raises(weights.Usage, match="updates_per_step is 0"):
        weights.load("x.pth", updates_per_step=0)
