"""Which cases `make test` runs: a few of each kind; the rest is left to `make test-slow`.

A table says by `all_but` which of its cases matter most. What is left is chosen by what it costs: of each test function, `make test` runs
the cheapest cases until they take `SECONDS`, and at least one. slow_cases.txt names the others. To measure anew:

    PYTEST_ADDOPTS=--junitxml=out/costs.xml make test
    python -m parity_tests.slow out/costs.xml
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

LIST = Path(__file__).with_name("slow_cases.txt")
SECONDS = 2.0
COLLECTED = pytest.StashKey[set[str]]()
"""The node ids that this run found, those included that it does not run."""


def all_but(kept: Collection[Any] | Callable[[Any], bool], values: Iterable[Any]) -> list[Any]:
    """The values for `pytest.mark.parametrize`, marked slow but for those that `kept` contains, or says yes to."""
    values = list(values)
    stays = [bool(kept(value)) if callable(kept) else value in kept for value in values]
    if not any(stays):
        raise ValueError("every case would be slow: keep one that is in the table")
    return [value if here else _slow(value) for value, here in zip(values, stays)]


def _slow(value: Any) -> Any:
    if hasattr(value, "marks"):
        return pytest.param(*value.values, id=value.id, marks=(*value.marks, pytest.mark.slow))
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)


def listed() -> set[str]:
    """The node ids that were too expensive for `make test`."""
    return set(LIST.read_text().splitlines())


def mark(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Marks the listed cases slow."""
    slow = listed()
    config.stash[COLLECTED] = {item.nodeid for item in items}
    for item in items:
        if item.nodeid in slow:
            item.add_marker(pytest.mark.slow)


def too_expensive(report: Path) -> set[str]:
    """The cases of a run beyond the first `SECONDS` of their function, from JUnit's XML."""
    costs: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for case in ElementTree.parse(report).iter("testcase"):
        function = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name'].partition('[')[0]}"
        costs[function].append((float(case.attrib["time"]), case.attrib["name"].partition("[")[2]))
    found = set()
    for function, cases in costs.items():
        spent = 0.0
        for seconds, name in sorted(cases):
            if spent and spent + seconds > SECONDS:
                found.add(f"{function}[{name}")
            else:
                spent += seconds
    return found


if __name__ == "__main__":
    LIST.write_text("".join(f"{name}\n" for name in sorted(listed() | too_expensive(Path(sys.argv[1])))))
