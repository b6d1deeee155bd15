"""README.md and MIGRATION.md keep their promises: snippets and commands run, links lead somewhere, and every test that they name exists."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "parity_tests"
DOCUMENTS = ("README.md", "MIGRATION.md", "CHANGELOG.md", "docs/commands.md", "docs/speed.md")
NAMED = sorted(set(re.findall(r"`((?:[\w/]+/)?test_\w+\.py)(?:::(\w+))?", (ROOT / "MIGRATION.md").read_text())))
FIRST_RESULT = re.compile(r"^## A first result\n.*?(?=^## )", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", ["README.md", "MIGRATION.md"])
def test_snippets_run(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    ran, names = 0, {}
    for code in re.findall(r"```python\n(.*?)```", FIRST_RESULT.sub("", (ROOT / document).read_text()), re.DOTALL):
        if "model.pth" not in code:  # a file of the reader
            exec(compile(code, document, "exec"), names)  # each snippet continues the session of those before it
            ran += 1
    assert ran


def test_the_first_result_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its snippets and commands run one after another in one folder, as a reader would run them."""
    pytest.importorskip("geoopt")
    monkeypatch.chdir(tmp_path)
    section = FIRST_RESULT.search((ROOT / "README.md").read_text())
    assert section
    ran, names = [], {}
    for kind, text in re.findall(r"```(python|console)\n(.*?)```", section[0], re.DOTALL):
        ran.append(kind)
        if kind == "python":
            exec(compile(text, "README.md", "exec"), names)
        else:
            run_transcript(text)
    assert ran == ["python", "console", "python"]
    steps = {entry["step"] for entry in names["optimizer"].state_dict()["state"].values()}
    assert steps == {1}
    names["optimizer"].zero_grad()
    geoopt_ball = names["points"].manifold
    geoopt_ball.dist(names["points"][:500], names["points"][500:]).mean().backward()
    names["optimizer"].step()
    assert abs(names["params"]["points"] - names["points"].detach().numpy()).max() < 1e-6


def run_transcript(text: str) -> None:
    """Runs the lines that begin with `$ hyperport`. The lines below a command are among those that it prints, in this order."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}
    for command, shown in re.findall(r"^\$ hyperport (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
        done = subprocess.run([sys.executable, "-m", "weights.cli", *shlex.split(command)], check=False, capture_output=True,
                              encoding="utf-8", env=environment)  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        lines = iter([plain(line) for line in done.stdout.splitlines()])
        for line in shown.splitlines():
            assert line == "..." or plain(line) in lines, f"{command} prints no {line!r}:\n{done.stdout}"


def plain(line: str) -> str:
    """A line with single spaces, in which all numbers with an exponent are alike: they differ between machines."""
    return " ".join(re.sub(r"\d\.\d+e[+-]\d+", "0e0", line).split())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document: str):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        assert "://" in target or (path.parent / target).exists(), f"{document} links to {target}"


def test_the_picture_of_the_readme_is_small():
    assert (ROOT / "docs" / "demo.png").stat().st_size <= 100_000


def test_there_are_many():
    assert len(NAMED) > 50


@pytest.mark.parametrize(("file", "function"), NAMED, ids=[f"{file}-{function}" for file, function in NAMED])
def test_named_test_exists(file: str, function: str):
    path = TESTS / file
    assert path.exists(), file
    defined = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    assert not function or function in defined, f"{file} has no {function}"


def test_commands_of_the_makefile_exist():
    makefile = (ROOT / "Makefile").read_text()
    for document in DOCUMENTS:
        for target in re.findall(r"(?:^|`)(?:\w+=\w+ )?make ([\w-]+)", (ROOT / document).read_text(), re.MULTILINE):
            assert f"\n{target}:" in makefile, f"{document} says make {target}"
