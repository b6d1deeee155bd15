"""Which cases `make test` runs: a few of each kind; more of them run in `make test-slow`, and the rest in `make test-machines ONLY=long`.

A table says by `all_but` which of its cases matter most. What is left is chosen by what it costs: of each test function, `make test` runs
the cheapest cases until they take 2 seconds, `make test-slow` the cheapest of the others until they take 20, or what `ROOM` says, and each
at least one. slow_cases.txt and long_cases.txt name what is left out. To measure anew:

    PYTEST_ADDOPTS=--junitxml=out/costs.xml make test
    python -m parity_tests.slow out/costs.xml
    PYTEST_ADDOPTS=--junitxml=out/costs.xml make test-slow
    python -m parity_tests.slow --long out/costs.xml
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

LISTS = {mark: Path(__file__).with_name(f"{mark}_cases.txt") for mark in ("slow", "long")}
SECONDS = {"slow": 2.0, "long": 20.0}
ROOM = {
    "parity_tests/graphs/test_parts.py::test_eight_devices_give_what_one_gives": 150.0,
    "parity_tests/models/test_hcnn.py::test_what_the_authors_code_computed": 100.0,
    "parity_tests/models/test_hypformer.py::test_what_the_authors_code_computed": 100.0,
    "parity_tests/models/test_hypll.py::test_what_hypll_computed": 100.0,
    "parity_tests/models/test_meru_recorded.py::test_what_the_authors_computed": 100.0,
    "parity_tests/models/test_verify.py::test_a_right_conversion_passes_and_wrong_ones_fail": 400.0,
    "parity_tests/test_documents.py::test_snippets_run": 100.0,
    "parity_tests/test_examples.py::test_migrate_hgat_moves_a_network_end_to_end": 100.0,
    "parity_tests/test_guide.py::test_a_page_runs": 400.0,
    "parity_tests/test_strict.py::test_every_model": 100.0,
    "parity_tests/training/test_several_devices.py::test_eight_devices_give_what_one_gives": 150.0,
    "parity_tests/training/test_sparse_step.py::test_eight_devices_give_what_one_gives": 200.0,
    "parity_tests/weights/proof/test_naming.py::test_a_planted_error_is_named": 60.0,
}
"""Functions whose cases are of different code, documents or files of authors, with the seconds of `make test-slow` that they may take."""
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


def listed(mark: str) -> set[str]:
    """The node ids that were too expensive."""
    return set(LISTS[mark].read_text().splitlines())


def mark(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Marks the listed cases. What is long is slow as well."""
    slow, long = listed("slow"), listed("long")
    config.stash[COLLECTED] = {item.nodeid for item in items}
    for item in items:
        if item.nodeid in slow | long:
            item.add_marker(pytest.mark.slow)
        if item.nodeid in long:
            item.add_marker(pytest.mark.long)


def too_expensive(report: Path, mark: str = "slow") -> set[str]:
    """The cases of a run beyond the first `SECONDS` or `ROOM` of their function, from JUnit's XML."""
    costs: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for case in ElementTree.parse(report).iter("testcase"):
        function = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name'].partition('[')[0]}"
        costs[function].append((float(case.attrib["time"]), case.attrib["name"].partition("[")[2]))
    found = set()
    for function, cases in costs.items():
        spent, room = 0.0, ROOM.get(function, SECONDS[mark]) if mark == "long" else SECONDS[mark]
        for seconds, name in sorted(cases):
            if spent and spent + seconds > room:
                found.add(f"{function}[{name}")
            else:
                spent += seconds
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m parity_tests.slow")
    parser.add_argument("report", type=Path, nargs="+", help="JUnit's XML of runs of `make test`, or with --long of `make test-slow`")
    parser.add_argument("--long", dest="mark", action="store_const", const="long", default="slow")
    given = parser.parse_args()
    found = set[str]().union(*(too_expensive(report, given.mark) for report in given.report))
    LISTS[given.mark].write_text("".join(f"{name}\n" for name in sorted(listed(given.mark) | found)))
