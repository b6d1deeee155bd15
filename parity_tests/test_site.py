"""The site: what `make docs` refuses is refused here already, as far as that needs no mkdocs; where it is installed, the site is built."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
assert SPEC
assert SPEC.loader
build = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build)


@pytest.mark.parametrize("module", build.API)
def test_every_public_name_has_a_docstring(module: str):
    assert not build.undocumented(module)


def test_the_way_to_every_page():
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")} | set(build.TOP)
    shown = {path for part in build.navigation() for value in part.values() for path in (paths(value))}
    assert shown == pages | {f"api/{module}.md" for module in build.API}


def paths(entry: object) -> list[str]:
    return [entry] if isinstance(entry, str) else [path for part in entry for path in part.values()]


def test_a_name_without_a_docstring_is_seen(monkeypatch: pytest.MonkeyPatch):
    from port_jax import metrics

    monkeypatch.setattr(metrics, metrics.__all__[0], lambda: None)
    assert build.undocumented("port_jax.metrics") == [f"port_jax.metrics.{metrics.__all__[0]}"]


@pytest.mark.slow  # the tests above are its likes
def test_it_is_built_without_the_network():
    """Nothing that a page loads is on another host."""
    pytest.importorskip("mkdocs")
    assert subprocess.run([sys.executable, str(ROOT / "docs" / "build.py")], cwd=ROOT).returncode == 0
    for page in (ROOT / "out" / "docs" / "site").rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text())
        assert not loaded, (page.name, loaded)
