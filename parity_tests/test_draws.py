"""No test passes by luck: what is drawn depends on `HYPERPORT_SEED` and the test's name, and nothing is drawn elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import hypothesis
import jax
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from parity_tests import draws

ROOT = Path(__file__).parent
ELSEWHERE = re.compile(
    r"np\.random\.(?!Generator)|numpy\.random|default_rng|PRNGKey|jax\.random\.key\(|manual_seed|torch\.Generator|torch\.seed"
    r"|urandom|RandomState|^\s*import random\b|from random import|import secrets|import .*\bgiven\b|hypothesis\.(given|seed)"
    r"|Rngs\(\d|_graph\(.*seed=\d",
    re.MULTILINE,
)
STREAM = draws.stream(3)
IMPORTED = STREAM.random()


def test_nothing_is_drawn_elsewhere():
    """Neither in tests and helpers nor in the scripts that they start."""
    home = {ROOT / "draws.py", Path(__file__)}
    found = {
        p.relative_to(ROOT).as_posix(): [m.group() for m in ELSEWHERE.finditer(p.read_text())]
        for p in sorted(ROOT.rglob("*.py"))
        if p not in home
    }
    assert not {name: calls for name, calls in found.items() if calls}


def examples(count: int = 300) -> list:
    """What Hypothesis draws."""
    found = []

    @hypothesis.settings(max_examples=count, database=None)
    @draws.given(0, n=st.integers(0, 10**5), x=st.floats(0, 1))
    def keep(n: int, x: float) -> None:
        found.append((n, x))

    keep()
    return found


def test_the_shift_changes_every_library(monkeypatch):
    def drawn() -> list:
        draws.restart("a test")
        streams = [STREAM.random(), torch.rand(()).item(), np.random.random()]
        draws.seed_torch(0)
        libraries = [draws.rng(0).random(), float(jax.random.uniform(draws.key(0))), torch.rand(()).item()]
        return [*streams, *libraries, torch.rand((), generator=draws.generator(1)).item(), examples()]

    before = drawn()
    assert before == drawn()
    monkeypatch.setattr(draws, "SHIFT", draws.SHIFT + 1)
    assert not any(a == b for a, b in zip(before, drawn()))


def test_the_variable_is_the_shift():
    code = "from parity_tests import draws; print(draws.SHIFT, draws.rng(0).random(), draws.fixed(0).random())"
    found = []
    for value in ("", "7", "-1"):
        env = {k: v for k, v in os.environ.items() if k != "HYPERPORT_SEED"} | ({"HYPERPORT_SEED": value} if value else {})
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, env=env, capture_output=True, text=True, check=True)
        found.append(done.stdout.split())
    shifts, shifted, fixed = zip(*found)
    assert shifts == ("0", "7", "-1")
    assert len(set(shifted)) == 3
    assert len(set(fixed)) == 1


@pytest.mark.parametrize("draw", [lambda: STREAM.random(), lambda: np.random.random(), lambda: torch.rand(()).item()])
def test_a_stream_starts_anew_with_each_test(draw):
    first = draw()
    draws.restart("another test")
    assert draw() != first
    draws.restart("a test")
    again = draw()
    draw()
    draws.restart("a test")
    assert draw() == again
    assert draws.rng(3).random() == IMPORTED


def test_a_stream_that_no_test_restarts_is_refused():
    with pytest.raises(RuntimeError, match="top of the file"):
        draws.stream(0)


def test_hypothesis_draws_the_same_whatever_is_imported(tmp_path, monkeypatch):
    before = examples()
    (tmp_path / "numbers_of_mine.py").write_text(f"NUMBERS = {list(range(70_000, 80_000, 20))}")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("numbers_of_mine")
    assert examples() == before
