"""Who imports whom, read from the sources without running them: where that goes round in a circle, and a picture of it.

python -m parity_tests.import_graph --write     draws the picture in ARCHITECTURE.md anew; without --write it is printed
"""

from __future__ import annotations

import argparse
import ast
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

Graph = Mapping[str, Collection[str]]

HOME = Path(__file__).parents[1]
DOCUMENT = HOME / "ARCHITECTURE.md"
MARKS = ("<!-- imports: written by python -m parity_tests.import_graph --write -->\n", "<!-- end of imports -->")
PACKAGES = ("port_jax", "weights", "reference_torch")
"""What the picture shows. Tests, benchmarks and examples import everything, and nothing imports them."""
ROOMS_IN_ROOMS = ("port_jax.optim.from_torch",)
"""Packages inside of a room that the picture shows on their own."""
BENEATH, ON_TOP = "port_jax/*.py below the packages", "port_jax/*.py on manifolds"
"""The modules of port_jax that stand in no room: those that import no room, and those that do."""


def graph(root: Path, rooms: Collection[str], *, at_import: bool = False) -> dict[str, set[str]]:
    """Each module of the rooms, and those of them that it imports: at its top or inside of functions, for types alone left out.

    `at_import` leaves out what stands inside of functions and is imported when these are called.
    """
    paths = {path: ".".join(path.relative_to(root).with_suffix("").parts) for room in rooms for path in (root / room).rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for path, name in paths.items()}

    def imported(path: Path) -> set[str]:
        return {name for name, in_function in _imported(path.read_text(), root) if name in modules and not (at_import and in_function)}

    return {name: imported(path) - {name} for name, path in modules.items()}


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


def rooms(root: Path, *, at_import: bool = False) -> dict[str, set[str]]:
    """The graph of `PACKAGES` with each room as one node: a folder of port_jax or weights, a module outside of folders, reference_torch.

    A package's own `__init__` offers names of the rooms inside of it; that is no import of theirs.
    """
    every = graph(root, PACKAGES)
    found = graph(root, PACKAGES, at_import=at_import)

    def room(module: str) -> str | None:
        if inside := next((r for r in ROOMS_IN_ROOMS if module == r or module.startswith(f"{r}.")), None):
            return inside.replace(".", "/")
        package, _, rest = module.partition(".")
        if package == "reference_torch":
            return package
        if not rest:
            return None
        first = rest.partition(".")[0]
        if (root / package / first).is_dir():
            return f"{package}/{first}"
        if package == "weights":
            return f"weights/{first}.py"
        return ON_TOP if any((root / "port_jax" / other.split(".")[1]).is_dir() for other in _reached(every, module)) else BENEATH

    result: dict[str, set[str]] = defaultdict(set)
    for module, others in found.items():
        if (own := room(module)) is None:
            continue
        result[own] |= {
            other for o in others if (other := room(o)) and other != own and not other.startswith(module.replace(".", "/") + "/")
        }
    return dict(result)


def picture(root: Path) -> str:
    """The rooms as a Mermaid graph without the arrows that others imply, and below it a table of all imports."""
    every, at_import = rooms(root), rooms(root, at_import=True)
    names = sorted(every)
    number = {name: f"r{i}" for i, name in enumerate(names)}
    lines = ["```mermaid", "flowchart TD"]
    for package in PACKAGES:
        own = [name for name in names if name.split("/")[0] == package]
        lines += [f"    subgraph {package}", *(f'        {number[name]}["{name}"]' for name in own), "    end"]
    for name in names:
        for other in sorted(every[name]):
            if not any(other in _reached(every, between) for between in every[name] - {other}):
                lines.append(f"    {number[name]} {'-->' if other in at_import[name] else '-.->'} {number[other]}")
    lines += ["```", "", "| package | imports | and when one of its functions is called |", "| --- | --- | --- |"]
    for name in names:
        later = every[name] - at_import[name]
        lines.append(f"| `{name}` | {_listed(at_import[name])} | {_listed(later)} |")
    return "\n".join(lines) + "\n"


def written(text: str, drawn: str) -> str:
    """A document with the picture between its marks replaced."""
    before, _, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise ValueError(f"the document has no {MARKS[0].strip()} ... {MARKS[1]}")
    return before + MARKS[0] + drawn + MARKS[1] + after


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _reached(found: Graph, start: str) -> set[str]:
    """What a node leads to, over one arrow or more."""
    seen: set[str] = set()
    ahead = list(found[start])
    while ahead:
        if (node := ahead.pop()) not in seen:
            seen.add(node)
            ahead += found[node]
    return seen


@cache
def _imported(text: str, root: Path) -> list[tuple[str, bool]]:
    """What a source imports, and whether inside of a function: full names, of a module or of what stands in one.

    A package whose names alone are imported is meant itself.
    """
    found = []
    for node, in_function in _walk(ast.parse(text), False):
        if isinstance(node, ast.Import):
            found += [(alias.name, in_function) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"a relative import: {ast.unparse(node)}"
            for alias in node.names:
                place = root.joinpath(*node.module.split("."), alias.name)
                is_module = place.with_suffix(".py").exists() or place.is_dir()
                found.append((f"{node.module}.{alias.name}" if is_module else node.module, in_function))
    return found


def _walk(node: ast.AST, in_function: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """The statements below a node, and whether they stand inside of a function. An import is a statement: expressions are left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other, in_function
                yield from _walk(other, in_function)
        elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            if isinstance(child, ast.stmt):
                yield child, in_function
            yield from _walk(child, in_function or isinstance(child, ast.FunctionDef))


def main() -> None:
    """Prints the picture, or writes it into ARCHITECTURE.md."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="write it into ARCHITECTURE.md")
    if parser.parse_args().write:
        DOCUMENT.write_text(written(DOCUMENT.read_text(), picture(HOME)))
    else:
        print(picture(HOME), end="")


if __name__ == "__main__":
    main()
