"""The page in a browser: nothing on the console, sorting, filtering, a phone's width, light and dark, paper, and README's picture of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from examples import report_picture
from parity_tests.weights.proof.browser import CHROMIUM, driven, opened
from parity_tests.weights.proof.reports import HOSTILE, made
from weights.proof.report_page import page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)")
ACTS = """
const table = document.querySelector('[data-name="comparisons"]');
const tools = table.previousElementSibling;
const shown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
const column = (at) => shown().map((row) => row.cells[at].textContent.trim());
const error = [...table.tHead.rows[0].cells].findIndex((head) => head.textContent.startsWith("error"));
const click = () => table.tHead.rows[0].cells[error].querySelector("button").click();
const values = () => shown().map((row) => Number(row.cells[error].dataset.v));
const search = tools.querySelector("input");
const found = {};
found.first = shown().length;
found.show = tools.querySelector("button").textContent;
tools.querySelector("button").click();
found.all = shown().length;
click(); found.down = values(); found.sorted = table.querySelector("[aria-sort=descending]").textContent;
click(); found.up = values();
search.value = "B.BIAS float32"; search.dispatchEvent(new Event("input"));
found.matched = shown().map((row) => row.textContent.includes("b.bias") && row.textContent.includes("float32"));
found.told = tools.querySelector("output").textContent;
search.value = ""; search.dispatchEvent(new Event("input"));
const status = tools.querySelector("select");
status.value = "failed"; status.dispatchEvent(new Event("change"));
found.failed = column(0);
status.value = ""; status.dispatchEvent(new Event("change"));
document.querySelector('[data-pair="b.bias 3"]').click();
found.pair = column(1);
const color = () => getComputedStyle(document.body).backgroundColor;
found.colors = [color(), (document.querySelector(".theme").click(), color())];
found.wide = document.documentElement.scrollWidth - innerWidth;
found.width = innerWidth;
return found;
"""
PAIRS = 9


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "x.html").write_text(page(made(pairs=PAIRS), "x.json"))
    return tmp_path / "x.html"


def test_it_sorts_and_filters_on_a_phone(file: Path, tmp_path: Path):
    found, messages = driven(file, ACTS, tmp_path)
    assert not messages
    assert (found["first"], found["show"], found["all"]) == (50, f"Show all {8 * PAIRS}", 8 * PAIRS)
    assert found["down"] == sorted(found["down"], reverse=True)
    assert found["up"] == sorted(found["up"])
    assert found["down"][0] > found["up"][0]
    assert found["sorted"].startswith("error")
    assert found["matched"]
    assert all(found["matched"])
    assert found["told"] == f"{len(found['matched'])} rows that match, of {8 * PAIRS}"
    assert found["failed"] == ["failed"] * 2 * PAIRS
    assert found["pair"] == ["b.bias 3"] * 8
    assert found["colors"][0] != found["colors"][1]
    assert (found["width"], found["wide"]) == (420, 0), "the page is wider than the phone"


def test_nothing_on_the_console(file: Path, tmp_path: Path):
    """Neither of an ordinary page nor of one with hostile text; what a page does say is seen."""
    assert not opened(file, tmp_path)
    file.write_text(page(made(HOSTILE), "x.json"))
    assert not opened(file, tmp_path)
    file.write_text(page(made(), "x.json").replace("</body>", "<script>console.error('planted')</script></body>"))
    assert any("Content Security Policy" in line for line in opened(file, tmp_path)), "a script of somebody else's is not run"


def test_the_picture_of_the_readme(file: Path, tmp_path: Path):
    report_picture.draw(file, tmp_path / "x.png")
    image = Image.open(tmp_path / "x.png").convert("RGB")
    assert image.size == report_picture.SIZE
    assert (tmp_path / "x.png").stat().st_size < 150_000
    colors = image.getcolors(1 << 20)
    assert colors is not None
    assert len(colors) > 8, "an empty page"
