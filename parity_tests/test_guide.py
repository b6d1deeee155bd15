"""The guide's snippets run, each page in a session of its own, and assert by themselves that both sides give the same numbers."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "guide").glob("*.md"))
QUICK = {"arrays", "debugging", "own_model"}
"""The others are like these, and run in `make test-slow`."""


@pytest.mark.parametrize("page", [pytest.param(p, marks=() if p.stem in QUICK else pytest.mark.slow, id=p.stem) for p in PAGES])
def test_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("geoopt")
    monkeypatch.chdir(tmp_path)
    names, text = {}, page.read_text()
    snippets = list(re.finditer(r"```python\n(.*?)```", text, re.DOTALL))
    assert snippets
    for found in snippets:
        line = text[: found.start()].count("\n") + 1
        exec(compile("\n" * line + found[1], str(page), "exec"), names)


def test_the_guide_leads_to_every_page():
    """The map in MIGRATION.md names each page once, and the pages lead to each other and to files."""
    linked = re.findall(r"^\| \[.+?\]\(docs/guide/(\w+)\.md\)", (ROOT / "MIGRATION.md").read_text(), re.MULTILINE)
    assert sorted(linked) == [page.stem for page in PAGES]
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"
