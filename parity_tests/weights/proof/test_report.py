"""The report: its JSON, its page, what a file's text can do there, and how it is written."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import geoopt
import numpy as np
import pytest
import torch

from examples.own_model.port import PORT
from parity_tests.weights.helpers import run, trained
from parity_tests.weights.proof.reports import HOSTILE, made
from port_jax.manifolds import Lorentz, PoincareBall
from weights.checkpoint import load
from weights.errors import NotWritten, Unreadable, Usage
from weights.models import ARCHITECTURES
from weights.proof import report_page
from weights.proof.parity import Parity
from weights.proof.planted import Planted
from weights.proof.report import Pair, Report, of_checkpoint, sides_of
from weights.proof.report_page import write
from weights.proof.rows import BINS, Row, Ulp
from weights.proof.verify import verify

OPTIONS = ("--arch", "tree", "--manifold", "emb=PoincareBall:0.7")
VOID = {"meta", "link", "wbr", "input"}


class Elements(HTMLParser):
    """The elements of a page with their attributes; an element that is closed otherwise than it was opened is an error."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.feed(text)
        assert not self.inside

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_entries_are_counted_in_units_in_the_last_place():
    for dtype in (np.float32, np.float64):
        theirs = np.array([1.0, -3.0, 0.7, 2.0, 5.0, 1e-30], dtype)
        ours = theirs.copy()
        ours[1], ours[2] = np.nextafter(theirs[1], dtype(0)), theirs[2] + 3 * np.spacing(theirs[2])
        ours[3], ours[4] = np.nan, theirs[4] + 2**25 * np.spacing(theirs[4])
        found = Ulp.of(theirs, ours)
        assert found is not None
        assert (found.counts[0], found.counts[1], found.counts[3], found.counts[BINS - 1]) == (2, 1, 1, 2)
        assert sum(found.counts) == theirs.size
        assert found.largest == np.inf
        assert Ulp.of(theirs[:5], np.where(np.isnan(ours), theirs, ours)[:5]).largest == 2**25
    same = np.array([np.inf, np.nan, 0.0])
    assert Ulp.of(same, same).counts[0] == 3
    assert Ulp.of(same, same[:2]) is None
    assert Ulp.of(same[:0], same[:0]) is None


def test_json_gives_the_report_again():
    report = made()
    text = json.dumps(report.to_json(), allow_nan=False)
    assert Report.of_json(json.loads(text)) == report
    assert json.loads(text)["rows"][0]["status"] == "ok"
    with pytest.raises(Unreadable, match="schema 99"):
        Report.of_json({**json.loads(text), "schema": 99})


@pytest.mark.parametrize("pairs", [1, 2])
def test_text_of_a_file_stays_text(pairs: int):
    plain, hostile = (report_page.page(made(texts, pairs), "x.json") for texts in (("a.weight", "b.bias"), HOSTILE))
    for page in (plain, hostile):
        assert all(c == "\n" or c.isprintable() for c in page)
        assert "http" not in re.sub('http-equiv="Content-Security-Policy"', "", page), "an address of a network"
    kinds, own = ({tag for tag, _ in Elements(page).found} for page in (hostile, plain))
    assert kinds <= own | {"code"}
    assert not [name for _, attributes in Elements(hostile).found for name in attributes if name.startswith("on") or name == "style"]
    assert sum(tag == "script" for tag, _ in Elements(hostile).found) == 1
    assert "1337" not in hostile
    assert "\\x1b[31m" in hostile
    assert "\\u202e" in hostile


def test_the_policy_lets_nothing_run_but_the_page_itself():
    page = report_page.page(made(), "x.json")
    policy = next(a["content"] for tag, a in Elements(page).found if tag == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        text = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy


@pytest.mark.parametrize("pairs", [1, 2])
def test_pictures_have_words_and_tables_have_heads(pairs: int):
    page = report_page.page(made(pairs=pairs), "x.json")
    found = Elements(page).found
    pictures = re.findall(r"<svg [^>]*>(.{0,20})", page)
    assert len(pictures) > 6
    assert all(text.startswith("<title>") for text in pictures)
    assert all(attributes.get("role") == "img" for tag, attributes in found if tag == "svg")
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in found if tag == "th")
    assert page.count("<caption>") == page.count("<table")
    assert {a["href"][1:] for tag, a in found if tag == "a" and a["href"].startswith("#")} <= {a["id"] for _, a in found if "id" in a}
    assert "not finite" in page
    assert f"<b>{2 * pairs}</b> of {7 * pairs} comparisons failed" in page


def test_a_port_writes_the_page(tmp_path: Path):
    """What parity found: the rows, and the planted errors that the inputs would not show."""
    missed = Planted("embed.weight with the other sign", "", "Give rows that are not 0")
    found = Parity(list(made().pairs[0].rows), planted=(missed,), name="Net")
    found.html(tmp_path / "x.html")
    found.json(tmp_path / "y.json")
    assert json.loads((tmp_path / "y.json").read_text())["rows"] == json.loads((tmp_path / "x.json").read_text())["rows"]
    text = (tmp_path / "x.html").read_text()
    assert "Net beside its original" in text
    assert "embed.weight with the other sign. Give rows that are not 0" in text
    with pytest.raises(NotWritten, match="exists"):
        found.html(tmp_path / "x.html")


def test_what_was_compared_is_in_the_head_and_what_was_not_is_listed(tmp_path: Path):
    """The class of the torch module, the inputs' shapes and the file's hash; levels that were left out."""
    rows = [Row(level, "float64", "x", 1.0, 1e-10, level != "step") for level in ("forward", "grad", "step")]
    about = {**sides_of(PORT, {}), "SHA-256 of x.pth": "0123456789abcdef" * 4}
    Parity(rows[:1], name="Net", about=about).html(tmp_path / "x.html")
    head, _, rest = (tmp_path / "x.html").read_text().partition("</header>")
    head = head.replace("<wbr>", "")
    for text in ("examples.own_model.original.Net", "input [7, 6] float64", "<code>0123456789abcdef</code>"):
        assert text in head
    left = rest.partition("<h2>Not verified</h2>")[2].partition("</section>")[0]
    assert [what in left for what in (">outputs<", ">gradients<", ">steps of the optimizer<", ">training mode<")] == [
        False,
        True,
        True,
        False,
    ]
    Parity(rows, name="Net").html(tmp_path / "x.html", overwrite=True)
    text = (tmp_path / "x.html").read_text()
    assert "Everything that was looked at is confirmed" not in text
    assert "1 of 3 comparisons failed." in text
    Parity([*rows[:2], rows[2]._replace(ok=True)], name="Net").html(tmp_path / "x.html", overwrite=True)
    assert "Everything that was looked at is confirmed" in (tmp_path / "x.html").read_text()
    trained = of_checkpoint(SimpleNamespace(port=ARCHITECTURES["hnn"], report={}, settings={}, arch="hnn"), tmp_path / "y.pth", rows)
    assert "training mode" in [one.what for one in trained.open]


def test_what_is_not_a_number_is_farthest_from_its_gate():
    rows = tuple(
        Row("step", "float64", name, error, 1e-10, False) for name, error in (("far", 1.0), ("nan", float("nan")), ("near", 2e-10))
    )
    report = replace(made(pairs=1), pairs=(Pair("x", "file", "a", "b", rows),))
    text = report_page.page(report, "x.json").partition('data-name="comparisons"')[2]
    assert text.index(">nan<") < text.index(">far<") < text.index(">near<")
    assert "not finite" in text
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["rows"][1]["error"] is None


def test_both_files_or_none(tmp_path: Path):
    page, data = tmp_path / "x.html", tmp_path / "x.json"
    assert write(made(), html=page) == [page, data]
    assert json.loads(data.read_text()) == made().to_json()
    page.unlink()
    with pytest.raises(NotWritten, match="exists"):
        write(made(), html=page)
    assert not page.exists()
    write(made(), html=page, data=tmp_path / "y.json", overwrite=True)
    assert (tmp_path / "y.json").read_text() == data.read_text()
    with pytest.raises(Usage, match=r"ends in '\.json'"):
        write(made(), html=data, overwrite=True)


def test_verify_writes_the_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    for steps in (1, 2):
        torch.save({"model": trained(steps=steps)[0].state_dict()}, tmp_path / f"{steps}.pth")
    page = tmp_path / "x.html"
    asked = ("verify", tmp_path / "1.pth", "--level", "settings", "--html", page, *OPTIONS)
    assert run(monkeypatch, capsys, *asked)[0] == 0
    assert "All <b>2</b> comparisons agree" in page.read_text()
    assert hashlib.sha256((tmp_path / "1.pth").read_bytes()).hexdigest() in page.read_text(), "which file it was"
    assert "manifold of emb" in page.read_text().partition("<h2>Not verified</h2>")[2]
    assert str(tmp_path) not in page.read_text() + page.with_suffix(".json").read_text(), "a page is given to others"
    code, _, err = run(monkeypatch, capsys, *asked)
    assert (code, "--force" in err) == (6, True)
    load(
        tmp_path / "2.pth", arch="tree", manifolds={"emb": load(tmp_path / "1.pth", arch="tree", manifolds=_ball()).manifolds["emb"]}
    ).save(tmp_path / "other")
    assert run(monkeypatch, capsys, *asked, "--force", "--converted", tmp_path / "other", "--report", tmp_path / "r.json")[0] == 1
    assert "of 2 comparisons failed" in page.read_text()
    assert json.loads((tmp_path / "r.json").read_text())["ok"] is False
    code, _, err = run(monkeypatch, capsys, *asked[:4], "--html", tmp_path / "x.pdf", *OPTIONS)
    assert (code, "ends in .html" in err) == (2, True)
    code, _, err = run(monkeypatch, capsys, *asked[:4], "--html", tmp_path / "1.html", "--report", tmp_path / "1.pth", "--force", *OPTIONS)
    assert (code, "is a file that this command reads" in err) == (6, True)


def test_defects_of_geoopt_that_a_run_goes_on_with_are_told(tmp_path: Path):
    ckpt = load_points(tmp_path)
    assert "On Lorentz, " in of_checkpoint(ckpt, tmp_path / "x.pth", []).pairs[0].told[0]
    several = replace(ckpt, report={"optimizers": {"first": ckpt.report["optimizer"], "second": {}}})
    assert of_checkpoint(several, tmp_path / "x.pth", []).pairs[0].told == of_checkpoint(ckpt, tmp_path / "x.pth", []).pairs[0].told


def load_points(folder: Path):
    """A file of points on a hyperboloid, whose momenta geoopt takes along in its own way."""
    manifold = geoopt.Lorentz(torch.tensor(1.3, dtype=torch.float64))
    points = geoopt.ManifoldParameter(manifold.random_normal(5, 3, dtype=torch.float64), manifold=manifold)
    optimizer = geoopt.optim.RiemannianAdam([points])
    manifold.dist0(points).sum().backward()
    optimizer.step()
    torch.save({"model": {"points": points.detach()}, "optimizer": optimizer.state_dict()}, folder / "x.pth")
    return load(folder / "x.pth", arch="tree", manifolds={"points": Lorentz(1.3)})


def _ball():
    return {"emb": PoincareBall(0.7)}


def test_rows_of_verify_have_their_entries_and_their_way(tmp_path: Path):
    net, optimizer = trained(dtype=torch.float64)
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "x.pth")
    ckpt = load(tmp_path / "x.pth", arch="tree", manifolds=_ball())
    rows = [row for row in verify(ckpt, tmp_path / "x.pth", types=("float64",)) if row.level == "step"]
    sizes = {key: tensor.numel() for key, tensor in net.state_dict().items()}
    for row in rows:
        assert row.ulp is not None
        assert sum(row.ulp.counts) == sizes[row.what]
        assert [step for step, _, _ in row.trail] == list(range(1, 11))
        assert row.trail[-1][1] == row.error
        assert all(drift > 0 for _, _, drift in row.trail)
    assert any(len({error for _, error, _ in row.trail}) > 1 for row in rows)
