"""Builds the site: README, the guide, the pages, and an API reference from the docstrings.

    python docs/build.py

The pages are staged in out/docs/pages as they lie in the repository, so that their links hold in both; out/docs/site/index.html is what one
opens. A dead link, a page that nothing leads to and a public name without a docstring are errors.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

import yaml

ROOT = Path(__file__).parent.parent
OUT = ROOT / "out" / "docs"
PAGES = OUT / "pages"
TOP = ("README.md", "MIGRATION.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
ASSETS = sorted((ROOT / "docs" / "assets").iterdir())
REMOTE_SHIM = "https://unpkg.com/iframe-worker/shim"
"""What mkdocs-material would load from the network for the search on a page that is opened from disk; assets/worker.js does it here."""
LINK = re.compile(r"\]\(([^)#\s]+)")
API = (
    *(
        "port_jax",
        "port_jax.manifolds",
        "port_jax.manifolds.isometries",
        "port_jax.manifolds.trig",
        "port_jax.optim",
        "port_jax.optim.schedules",
    ),
    *(
        "port_jax.graphs",
        "port_jax.layers",
        "port_jax.models",
        "port_jax.initializers",
        "port_jax.losses",
        "port_jax.metrics",
        "port_jax.pairwise",
    ),
    *(
        "port_jax.training",
        "port_jax.data",
        "port_jax.distributions",
        "port_jax.samplers",
        "port_jax.frechet",
        "port_jax.riemannian_geometry",
    ),
    *("port_jax.linalg", "port_jax.spectral", "port_jax.plots", "port_jax.memory", "weights"),
)


def main() -> int:
    """Returns the exit code of mkdocs."""
    shutil.rmtree(OUT, ignore_errors=True)
    pages = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        stage(page)
        for target in LINK.findall(page.read_text()):
            linked = (page.parent / target).resolve()
            if "://" not in target and linked.is_file() and linked not in pages:
                stage(linked)
    for asset in ASSETS:
        stage(asset)
    for module in API:
        reference(module)
    if missing := [name for module in API for name in undocumented(module)]:
        print("Public names without a docstring:", *missing, sep="\n  ", file=sys.stderr)
        return 1
    configuration = yaml.safe_load((ROOT / "docs" / "mkdocs.yml").read_text())
    configuration["nav"] = navigation()
    written = ROOT / "docs" / ".mkdocs.yml"
    written.write_text(yaml.safe_dump(configuration, sort_keys=False))
    try:
        code = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", str(written)]).returncode
    finally:
        written.unlink()
    for page in (OUT / "site").rglob("*.html"):
        up = "../" * (len(page.relative_to(OUT / "site").parts) - 1)
        page.write_text(page.read_text().replace(REMOTE_SHIM, f"{up}docs/assets/worker.js"))
    if not code:
        print(f"Open {OUT / 'site' / 'index.html'}")
    return code


def stage(path: Path) -> None:
    """Copies a file to the place among the pages that it has in the repository."""
    copy = PAGES / path.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, copy)


def reference(module: str) -> None:
    """Writes a page with the public names of a module."""
    found = importlib.import_module(module)
    lines = [f"# {module}", "", inspect.getdoc(found) or "", "", *(f"::: {home(found, name)}\n" for name in public(found))]
    page = PAGES / "api" / f"{module}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(lines))


def undocumented(module: str) -> list[str]:
    """The public functions and classes without a docstring of their own."""
    found = importlib.import_module(module)
    values = {name: getattr(found, name) for name in public(found)}
    return [f"{module}.{name}" for name, v in values.items() if callable(v) and not get_origin(v) and not (v.__doc__ or "").strip()]


def public(module: ModuleType) -> list[str]:
    """The functions, classes and constants of `__all__`; modules have pages of their own."""
    return [name for name in module.__all__ if hasattr(module, name) and not inspect.ismodule(getattr(module, name))]


def home(module: ModuleType, name: str) -> str:
    """The path under which the docstrings' reader, which runs nothing, finds the name."""
    value = getattr(module, name)
    defined = getattr(value, "__module__", module.__name__)
    inside = importlib.import_module(defined) if isinstance(defined, str) and defined.startswith(("port_jax", "weights")) else module
    return f"{inside.__name__}.{name}" if getattr(inside, name, None) is value else f"{module.__name__}.{name}"


def navigation() -> list[dict[str, Any]]:
    """The guide in the order of its map, then the tables in the order of theirs."""
    text = (ROOT / "MIGRATION.md").read_text()
    rows = re.findall(r"^\| \[(.+?)\]\((docs/\S+\.md)\)", text, re.MULTILINE)
    guide = [{title: path} for title, path in rows if "/guide/" in path]
    tables = [{title: path} for title, path in rows if "/guide/" not in path]
    return [
        {"Start": "README.md"},
        {"Guide": [{"The way": "MIGRATION.md"}, *guide]},
        {"Tables": tables},
        {"API": [{module: f"api/{module}.md"} for module in API]},
        {"Project": [{"Commands of make": "docs/commands.md"}, {"Architecture": "ARCHITECTURE.md"}, {"Contributing": "CONTRIBUTING.md"},
                     {"Changes": "CHANGELOG.md"}]},
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
