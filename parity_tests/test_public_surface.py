"""Every module of port_jax says in `__all__` what it offers, offers nothing foreign, and documents all of it.

What has a docstring of its own, or inherits one, counts as documented: the classes and functions of every `__all__`, and the public
methods and properties of these classes, counted where they are defined.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import port_jax

MODULES = ["port_jax", *sorted(info.name for info in pkgutil.walk_packages(port_jax.__path__, "port_jax."))]
# Qualified name -> why it needs no docstring.
UNDOCUMENTED: dict[str, str] = {}
# Qualified name of a public definition -> why it is not in its module's `__all__`.
UNLISTED: dict[str, str] = {}


def bound(module: ModuleType) -> tuple[set[str], set[str]]:
    """The names that the source of a module defines at its top level, and those that it imports from its own library."""
    root = module.__name__.partition(".")[0]
    tree = ast.parse(Path(str(module.__file__)).read_text())
    here, imported = set(), set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            here.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            here |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == root:
            imported |= {alias.asname or alias.name for alias in node.names}
    if hasattr(module, "__path__"):
        imported |= {info.name for info in pkgutil.iter_modules(module.__path__)}
    return here, imported


def faults(module: ModuleType) -> list[str]:
    """What is wrong with the `__all__` of a module."""
    name, offered = module.__name__, getattr(module, "__all__", None)
    if offered is None:
        return [f"{name} has no __all__"]
    scope: dict[str, object] = {}
    exec(f"from {name} import *", scope)
    here, imported = bound(module)
    wrong = [f"{name}.__all__ names {n}, which does not exist" for n in offered if n not in scope]
    wrong += [f"{name}.__all__ names {n}, which {name.partition('.')[0]} does not define" for n in offered if n not in here | imported]
    defined = {n for n in here if inspect.isroutine(getattr(module, n, None)) or inspect.isclass(getattr(module, n, None))}
    written = {node.name for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    public = {n for n in defined & written if not n.startswith("_")} - {*offered}
    wrong += [f"{name}.{n} is public and not in __all__" for n in sorted(public) if f"{name}.{n}" not in UNLISTED]
    return wrong if offered else [*wrong, f"{name}.__all__ is empty"]


def definitions(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The module, the classes and functions in its `__all__` that it defines itself, and the public members of the classes."""
    yield module.__name__, module
    for name in module.__all__:
        value = getattr(module, name, None)
        if not (inspect.isclass(value) or inspect.isroutine(value)) or value.__module__ != module.__name__:
            continue
        yield f"{module.__name__}.{name}", value
        if inspect.isclass(value):
            fields = inspect.get_annotations(value)  # whose defaults may be functions of another module
            members = ((n, m) for n, m in vars(value).items() if not n.startswith("_") and n not in fields)
            for n, member in members:
                if inspect.isroutine(member) or isinstance(member, property | classmethod | staticmethod):
                    yield f"{module.__name__}.{name}.{n}", getattr(value, n)


def documented(value: object) -> bool:
    """By a docstring of its own, not the signature that a dataclass or a NamedTuple writes in its place, or by an inherited one."""
    if inspect.isclass(value):
        return bool(value.__doc__) and not value.__doc__.startswith(f"{value.__name__}(")
    return bool(inspect.getdoc(value))


@pytest.mark.parametrize("name", MODULES)
def test_all_names_what_a_module_offers_and_nothing_foreign(name: str):
    wrong = faults(importlib.import_module(name))
    assert not wrong, "\n".join(wrong)


def test_everything_public_has_a_docstring():
    found = dict(pair for name in MODULES for pair in definitions(importlib.import_module(name)))
    bare = [name for name, value in found.items() if not documented(value) and name not in UNDOCUMENTED]
    assert not bare, f"{len(bare)} of {len(found)} public names have no docstring:\n" + "\n".join(bare)
    assert not (gone := UNDOCUMENTED.keys() - found.keys()), gone


_PACKAGE = '"""A package."""\nfrom planted_room.bad import own\n__all__ = ["bad", "own"]'
_BAD = '''
"""A module."""
from math import sqrt
from typing import NamedTuple

__all__ = ["Class", "Pair", "own", "sqrt"]


def own():
    pass


class Pair(NamedTuple):
    x: int


def left_out():
    """Documented."""


class Class:
    """Documented."""

    @property
    def bare(self):
        return 1
'''


def test_faults_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    room = tmp_path / "planted_room"
    room.mkdir()
    (room / "__init__.py").write_text(_PACKAGE)
    (room / "bad.py").write_text(_BAD)
    (room / "silent.py").write_text('"""A module without a list."""')
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        package, bad, silent = (importlib.import_module(f"planted_room{n}") for n in ("", ".bad", ".silent"))
        assert faults(package) == []
        assert faults(bad) == [
            "planted_room.bad.__all__ names sqrt, which planted_room does not define",
            "planted_room.bad.left_out is public and not in __all__",
        ]
        assert faults(silent) == ["planted_room.silent has no __all__"]
        bare = [name for name, value in definitions(bad) if not documented(value)]
        assert bare == ["planted_room.bad.Class.bare", "planted_room.bad.Pair", "planted_room.bad.own"]
    finally:
        for name in [n for n in sys.modules if n.partition(".")[0] == "planted_room"]:
            del sys.modules[name]


def test_types_reach_the_users_of_the_packages():
    """A type checker reads the annotations of an installed package only where `py.typed` lies beside it."""
    root = Path(port_jax.__path__[0]).parent
    assert (root / "port_jax/py.typed").exists()
    assert (root / "weights/py.typed").exists()
    assert '"py.typed"' in (root / "pyproject.toml").read_text()
