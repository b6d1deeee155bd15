"""ARCHITECTURE.md and CONTRIBUTING.md say what the sources say: the picture, every file and function, the pinned version."""

import ast
import re
from pathlib import Path

import pytest

from parity_tests.import_graph import MARKS, circles, picture, rooms, written

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("ARCHITECTURE.md", "CONTRIBUTING.md")


def prose(document: str) -> str:
    """A document without its blocks of code and without the picture, which have tests of their own."""
    text = (ROOT / document).read_text()
    return re.sub(r"^ *```.*?^ *```", "", written(text, "") if MARKS[0] in text else text, flags=re.DOTALL | re.MULTILINE)


def created(document: str) -> set[str]:
    """The files that the document's examples create."""
    return set(re.findall(r"^# ([\w/]+\.py)$", (ROOT / document).read_text(), re.MULTILINE))


def test_the_picture_is_what_the_imports_say():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert text == written(text, picture(ROOT)), "draw it anew: python -m parity_tests.import_graph --write"


def test_no_rooms_import_each_other():
    assert not circles(rooms(ROOT))


def test_the_picture_sees_an_import(tmp_path: Path):
    """An arrow between rooms, dotted inside a function, none for types alone or from a package to what it offers of its own rooms."""
    for name, text in {
        "port_jax/__init__": "",
        "port_jax/low/__init__": "",
        "port_jax/low/a": "",
        "port_jax/mid/__init__": "from port_jax.low.a import f",
        "port_jax/high/__init__": "def f():\n    from port_jax import mid\n    import port_jax.low",
        "port_jax/linalg": "",
        "port_jax/means": "from port_jax.low import a",
        "weights/__init__": "from weights.rooms.a import f",
        "weights/rooms/__init__": "",
        "weights/rooms/a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from port_jax.high import f",
        "reference_torch/__init__": "",
    }.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    drawn = picture(tmp_path)
    label = dict(re.findall(r'(r\d+)\["(.*)"\]', drawn))
    arrows = {(label[a], kind, label[b]) for a, kind, b in re.findall(r"(r\d+) (\S+) (r\d+)", drawn)}
    assert arrows == {
        ("port_jax/mid", "-->", "port_jax/low"),
        ("port_jax/high", "-.->", "port_jax/mid"),
        ("port_jax/*.py on manifolds", "-->", "port_jax/low"),
    }
    assert "| `port_jax/high` |  | `port_jax/low`, `port_jax/mid` |" in drawn


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_and_what_is_in_them_exist(document: str):
    """`path`; `name` in `path`; `name` (`path`)."""
    text, new = prose(document), created(document)
    paths = {p for p in re.findall(r"`([\w.]+(?:/[\w.]+)*(?:/|\.py|\.toml|\.txt|\.md|\.csv))`", text) if "/" in p}
    assert len(paths) > 20
    assert not {p for p in paths if not (ROOT / p).exists() and p not in new}
    pairs = re.findall(r"`([\w.]+)`(?: in |\s\()`([\w/]+\.py)`", text.replace("\n", " "))
    assert len(pairs) > 3
    missing = []
    for name, path in pairs:
        if path not in new:
            defined = {n for node in ast.walk(ast.parse((ROOT / path).read_text())) for n in _names(node)}
            missing += [f"{path} has no {name}" for part in name.split(".")[-1:] if part not in defined]
    assert not missing, "\n".join(missing)


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_of_make_exist(document: str):
    makefile = (ROOT / "Makefile").read_text()
    assert not [name for name in re.findall(r"`make ([\w-]+)", (ROOT / document).read_text()) if f"\n{name}:" not in makefile]


def test_one_version_of_ruff_is_pinned():
    files = {
        "requirements.txt": r"^ruff==(.*)$",
        "pyproject.toml": r'"ruff==(.*)"',
        ".pre-commit-config.yaml": r"ruff-pre-commit\n +rev: v(\S+)",
    }
    found = {name: re.findall(pattern, (ROOT / name).read_text(), re.MULTILINE) for name, pattern in files.items()}
    assert all(len(versions) == 1 for versions in found.values())
    assert len({versions[0] for versions in found.values()}) == 1, found
