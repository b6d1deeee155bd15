"""Errors that are planted in three ports are named for what they are: nine of ten at least, and those that are not stand here."""

from __future__ import annotations

import pytest

from parity_tests.weights.proof.kinds_of_error import MODULES, SAID, found, right

QUICK = {("vae", "N - 1 over N"), ("ball", "decay inside or outside")}
UNNAMED: set[tuple[str, str]] = set()
CELLS = [(name, kind) for name in MODULES for kind in SAID]


def test_nine_of_ten():
    assert set(CELLS) >= UNNAMED
    assert 10 * len(UNNAMED) <= len(CELLS)


@pytest.mark.parametrize(("name", "kind"), [pytest.param(*cell, marks=() if cell in QUICK else pytest.mark.slow) for cell in CELLS])
def test_a_planted_error_is_named(name: str, kind: str):
    said = found(name, kind, MODULES[name][1].trained(4)[0])
    assert not said.ok
    assert right(kind, said) == ((name, kind) not in UNNAMED), said
