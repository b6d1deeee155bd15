"""The documents keep their promises: snippets and commands run, links lead to files, and every test that they name exists."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from parity_tests import machines

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "parity_tests"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = ("README.md", "MIGRATION.md", "CHANGELOG.md", *(str(page.relative_to(ROOT)) for page in PAGES))
NAMED = sorted({named for page in PAGES for named in re.findall(r"`((?:[\w/]+/)?test_\w+\.py)(?:::(\w+))?", page.read_text())})
FIRST_RESULT = re.compile(r"^## A first result\n.*?(?=^## )", re.DOTALL | re.MULTILINE)


# README's first snippets are those of its first result, which a test below runs in a process of its own.
@pytest.mark.slow
@pytest.mark.parametrize("document", ["README.md", "docs/layers.md"])
def test_snippets_run(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    ran, names = 0, {}
    for code in re.findall(r"```python\n(.*?)```", FIRST_RESULT.sub("", (ROOT / document).read_text()), re.DOTALL):
        exec(compile(code, document, "exec"), names)  # each snippet continues the session of those before it
        ran += 1
    assert ran


@pytest.mark.slow  # as that of the readme below
def test_the_way_of_the_migration_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From the file to training in JAX and back, as a reader would type it. Its last snippet loads what came back into torch."""
    pytest.importorskip("geoopt")
    monkeypatch.chdir(tmp_path)
    ran, names = run_session((ROOT / "MIGRATION.md").read_text(), "MIGRATION.md", columns=110)
    assert ran.count("console") == 4
    assert {entry["step"].item() for entry in names["optimizer"].state_dict()["state"].values()} == {50}


def test_the_first_result_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its snippets and commands run one after another in one folder, as a reader would run them."""
    pytest.importorskip("geoopt")
    monkeypatch.chdir(tmp_path)
    section = FIRST_RESULT.search((ROOT / "README.md").read_text())
    assert section
    ran, names = run_session(section[0], "README.md", columns=80)
    assert ran == ["python", "console", "python"]
    steps = {entry["step"] for entry in names["optimizer"].state_dict()["state"].values()}
    assert steps == {1}
    names["optimizer"].zero_grad()
    geoopt_ball = names["points"].manifold
    geoopt_ball.dist(names["points"][:500], names["points"][500:]).mean().backward()
    names["optimizer"].step()
    assert abs(names["params"]["points"] - names["points"].detach().numpy()).max() < 1e-6


def run_session(text: str, name: str, columns: int) -> tuple[list[str], dict[str, Any]]:
    """Runs snippets and commands in turn. Returns the kind of each, and the names that the snippets left."""
    ran, names = [], {}
    for kind, code in re.findall(r"```(python|console)\n(.*?)```", text, re.DOTALL):
        ran.append(kind)
        if kind == "python":
            exec(compile(code, name, "exec"), names)
        else:
            run_transcript(code, columns)
    return ran, names


def run_transcript(text: str, columns: int) -> None:
    """Runs the lines that begin with `$ hyperport`. The lines below a command are among those that it prints, in this order."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": str(columns)}
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


@pytest.mark.parametrize("picture", ["demo.png", "report.png", "zero_shot.png"])
def test_pictures_are_small(picture: str):
    assert (ROOT / "docs" / picture).stat().st_size <= 100_000


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


def test_help_and_the_page_describe_each_command_of_the_makefile():
    makefile, page = (ROOT / "Makefile").read_text(), (ROOT / "docs" / "commands.md").read_text()
    phony = re.search(r"^\.PHONY: (.*)", makefile, re.MULTILINE)
    assert phony
    commands = set(phony[1].split()) - {"help"}
    assert set(re.findall(r'@echo "make ([\w-]+)', makefile)) == commands
    assert set(re.findall(r"^\| `make ([\w-]+)` \|", page, re.MULTILINE)) == commands
    needs = dict(re.findall(r"^([\w-]+): (.*)", makefile, re.MULTILINE))
    assert {name for name in commands if needs.get(name) not in ("$(READY)", "lint")} == {"clean"}


def test_help_and_the_page_name_the_parts_of_the_machines():
    parts = {part for row in machines.rows() for part in row.parts}
    lines = "".join(re.findall(r'@echo "(.*)"', (ROOT / "Makefile").read_text()))
    for text, pattern in ((lines, r"some parts of it: (.*?)\)"), ((ROOT / "docs" / "commands.md").read_text(), r"which are (.*?)\. ")):
        found = re.search(pattern, text)
        assert found
        assert set(re.findall(r"[\w-]+", found[1])) - {"and"} == parts


def test_one_version_of_torch_and_geoopt_is_named():
    """README's command, the extra `reference`, the pinned versions and the Makefile."""
    texts = [(ROOT / name).read_text() for name in ("README.md", "requirements.txt", "Makefile")]
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["reference"]
    for package, files in (("torch", 3), ("geoopt", 2)):
        named = [set(re.findall(rf"\b{package}==([\w.]+)", text)) for text in [*texts[:files], " ".join(extra)]]
        assert len(named[0]) == 1
        assert all(versions == named[0] for versions in named), named


def test_pip_installs_the_packages_with_their_data(tmp_path: Path):
    """`pip install .`, but with the setuptools that is there and without dependencies, because both would have to be downloaded."""
    pytest.importorskip("setuptools", minversion="77")
    rooms = ("port_jax", "weights", "reference_torch")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in rooms:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    command = [*pip, "--no-build-isolation", "--target", "there", "."]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for path in (path for name in rooms for path in (tmp_path / name).rglob("*") if path.is_file()):
        assert (tmp_path / "there" / path.relative_to(tmp_path)).exists(), path
    assert not (tmp_path / "there" / "parity_tests").exists()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "there")}
    command = [sys.executable, str(tmp_path / "there" / "bin" / "hyperport"), "--version"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("hyperport ")


HIDDEN = """
import importlib.machinery, sys
found = importlib.machinery.PathFinder.find_spec
def find_spec(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in ("torch", "geoopt") else found(name, path, target)
importlib.machinery.PathFinder.find_spec = classmethod(find_spec)
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_without_torch_the_tests_that_need_it_are_skipped():
    """A file that imports torch, one of whose tests does, and one without it."""
    chosen = ("manifolds/test_random.py", "manifolds/test_isometries.py::test_near_the_boundary_geoopt_divides_by_too_much",
              "manifolds/test_isometries.py::test_bad_input")  # fmt: skip
    command = [sys.executable, "-c", HIDDEN, "-p", "no:cacheprovider", *(f"parity_tests/{name}" for name in chosen)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert "1 passed, 2 skipped" in done.stdout, done.stdout + done.stderr
