"""What a file's names do to a terminal, a picture and a message: nothing. And what nobody foresaw is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import weights
from parity_tests.weights.helpers import run
from weights import checkpoint
from weights.errors import Unmatched

ESCAPE = "\x1b]0;owned\x07"
NAMES = {"a control sequence": ESCAPE + "w", "markup": "[bold]w", "closing markup": "[/]", "a surrogate": "\ud800w", "reversed": "a\u202ew"}


@pytest.mark.parametrize("name", NAMES)
def test_keys_are_shown_as_they_are_or_escaped(tmp_path: Path, monkeypatch, capsys, name: str):
    key = NAMES[name]
    shown = key.encode("unicode_escape", "backslashreplace").decode() if not key.isprintable() else key
    weights.write(tmp_path / "x.pth", {key: weights.read(saved(tmp_path / "y.pth")).root["w"]})
    monkeypatch.chdir(tmp_path)
    texts = []
    for command in (
        *("inspect x.pth --arch tree", "diff x.pth y.pth", "verify x.pth --arch tree --level bits"),
        *("inspect x.pth --arch hgat", "convert x.pth --arch tree --out c"),
    ):
        code, out, err = run(monkeypatch, capsys, *command.split())
        assert code in (0, 1, 2, 5), err
        texts.append(out + err)
    assert not any(c in text for c in ("\x1b", "\x07", "\ud800", "\u202e") for text in texts)
    assert all(shown in "".join(text.split()) for text in texts[:2])


def saved(path: Path) -> Path:
    torch.save({"w": torch.full((3, 2), 0.1)}, path)
    return path


def test_names_of_nodes_are_text_in_a_picture(tmp_path: Path):
    """So is the parameter's name, which stands below the picture."""
    from port_jax.manifolds import PoincareBall
    from weights.views.disk_picture import plot
    from weights.views.embed import embeddings

    key = "$\\frac{<b>$" + ESCAPE
    weights.write(tmp_path / "x.pth", {key: weights.read(saved(tmp_path / "y.pth")).root["w"]})
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds={key: PoincareBall(1.0)})
    found = embeddings(ckpt, key=key, names=["a$b$c", "$\\frac{", ESCAPE + "<script>"])
    plot(found, tmp_path / "d.svg")
    picture = (tmp_path / "d.svg").read_text()
    assert "a$b$c" in picture
    assert "params/$\\frac{&lt;b&gt;$\\x1b]0;owned" in picture
    assert not any(text in picture for text in ("<script>", "<b>", "\x1b"))


@pytest.mark.parametrize("form", ["word2vec", "tensorboard"])
def test_names_of_nodes_in_text_files_are_escaped(tmp_path: Path, form: str):
    from weights.views.embed import Embeddings
    from weights.views.embed_formats import write

    found = Embeddings(np.ones((2, 2)), (ESCAPE, "b"), None, "objects", "params/w", np.arange(2), (ESCAPE, "c"))
    texts = "".join(path.read_text() for path in write(found, form, tmp_path / "out"))
    assert "\\x1b]0;owned\\x07" in texts
    assert "\x1b" not in texts


def test_an_error_that_nobody_foresaw_is_one_line(tmp_path: Path, monkeypatch, capsys):
    def fail(*args: object, **options: object) -> None:
        raise ArithmeticError(f"{ESCAPE}\nsecond line")

    monkeypatch.setattr(checkpoint, "load", fail)
    code, out, err = run(monkeypatch, capsys, "convert", saved(tmp_path / "x.pth"), "--out", tmp_path / "c")
    assert (code, out) == (7, "")
    assert err.count("\n") == 1
    assert "was not foreseen (ArithmeticError: \\x1b]0;owned\\x07). Run the command with hyperport --debug" in err
    with pytest.raises(ArithmeticError):
        run(monkeypatch, capsys, "--debug", "convert", saved(tmp_path / "x.pth"), "--out", tmp_path / "c")


def test_messages_escape_what_a_file_says():
    assert str(Unmatched(f"the key {ESCAPE}", "Rename it")) == "the key \\x1b]0;owned\\x07. Rename it"
    assert str(Unmatched("\ud800")) == "\\ud800"
