"""Who imports whom, read from the sources without running them, and where that goes round in a circle."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

Graph = Mapping[str, Collection[str]]


def graph(root: Path, rooms: Collection[str]) -> dict[str, set[str]]:
    """Each module of the rooms, and those of them that it imports: at its top or inside of functions, for types alone left out."""
    paths = {path: ".".join(path.relative_to(root).with_suffix("").parts) for room in rooms for path in (root / room).rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for path, name in paths.items()}
    return {name: {found for found in _imported(path, root) if found in modules} - {name} for name, path in modules.items()}


def circles(found: Graph) -> list[list[str]]:
    """The sets of modules that reach each other, each sorted (Tarjan's strongly connected components of more than one module)."""
    number: dict[str, int] = {}
    least: dict[str, int] = {}
    open_: list[str] = []
    result: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = least[module] = len(number)
        open_.append(module)
        for other in sorted(found[module]):
            if other not in number:
                visit(other)
                least[module] = min(least[module], least[other])
            elif other in open_:
                least[module] = min(least[module], number[other])
        if least[module] == number[module]:
            at = open_.index(module)
            if len(open_) - at > 1:
                result.append(sorted(open_[at:]))
            del open_[at:]

    for module in sorted(found):
        if module not in number:
            visit(module)
    return result


def _imported(path: Path, root: Path) -> Iterator[str]:
    """Full names, of a module or of what stands in one. A package whose names alone are imported is meant itself."""
    for node in _walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path} imports relatively"
            for alias in node.names:
                place = root.joinpath(*node.module.split("."), alias.name)
                is_module = place.with_suffix(".py").exists() or place.is_dir()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from _walk(other)
        else:
            yield child
            yield from _walk(child)
