"""What README.md and MIGRATION.md promise: the snippets run, and every test that they name exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "parity_tests"
NAMED = sorted(set(re.findall(r"`((?:[\w/]+/)?test_\w+\.py)(?:::(\w+))?", (ROOT / "MIGRATION.md").read_text())))


@pytest.mark.parametrize("document", ["README.md", "MIGRATION.md"])
def test_snippets_run(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    ran, names = 0, {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL):
        if "model.pth" not in code:  # a reader's own file
            exec(compile(code, document, "exec"), names)  # a reader goes on in the same session
            ran += 1
    assert ran


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
    for document in ("README.md", "MIGRATION.md"):
        for target in re.findall(r"make (\w+)", (ROOT / document).read_text()):
            assert f"\n{target}:" in makefile, f"{document} says make {target}"
