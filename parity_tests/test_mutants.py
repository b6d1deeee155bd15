"""The table of planted errors: each can still be planted, and names tests that exist. `python -m parity_tests.mutants` runs them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from parity_tests.mutants import __main__ as runner
from parity_tests.mutants.tables import MUTATIONS, SUBJECTS

ROOT = Path(__file__).parents[1]


@cache
def functions(file: str) -> set[str]:
    """The tests of a file."""
    return {node.name for node in ast.parse((ROOT / "parity_tests" / file).read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_error_finds_its_text_once_and_leaves_files_that_can_be_read():
    for mutation in MUTATIONS:
        sources = {file: (ROOT / file).read_text() for file in mutation.files}
        for file, text in mutation.planted(sources).items():
            assert text != sources[file], mutation.name
            ast.parse(text, file)


def test_every_error_names_tests_that_exist():
    missing = []
    for mutation in MUTATIONS:
        for test in mutation.tests:
            file, _, rest = test.partition("::")
            if not (ROOT / "parity_tests" / file).exists() or (rest and rest.partition("[")[0] not in functions(file)):
                missing.append(f"{mutation.name}: {test}")
        assert mutation.tests or mutation.equivalent, mutation.name
    assert not missing, "\n".join(missing)


def test_names_tell_errors_apart_and_every_package_has_some():
    names = [mutation.name for mutation in MUTATIONS]
    assert len(set(names)) == len(names) >= 100
    for package in ("manifolds", "optim", "optim/from_torch", "graphs", "layers", "models", "data", "training", "samplers"):
        assert any(file.startswith(f"port_jax/{package}/") for m in MUTATIONS for file in m.files), package
    for package in ("files", "mapping", "models", "optim", "views", "proof"):
        assert any(file.startswith(f"weights/{package}/") for m in MUTATIONS for file in m.files), package
    both = [m for m in SUBJECTS["both sides"] if {file.partition("/")[0] for file in m.files} == {"port_jax", "reference_torch"}]
    assert len(both) == len(SUBJECTS["both sides"]) >= 12


def test_a_text_that_is_gone_ends_the_run_before_any_test(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    first = MUTATIONS[0]
    gone = type(first)("an error in text that is gone", ((first.files[0], "no such text", ""),), first.tests)
    monkeypatch.setattr(runner, "MUTATIONS", (gone,))
    monkeypatch.setattr("sys.argv", ["mutants", "an error"])
    assert runner.main() == 2
    assert "'no such text' is 0 times in" in capsys.readouterr().out
