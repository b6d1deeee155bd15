"""What `make test` leaves out exists, and has its like in what it runs."""

from pathlib import Path

import pytest

from parity_tests import slow

TIMES = """<testsuites><testsuite>
<testcase classname="parity_tests.test_a" name="test_f[one]" time="1.5"/>
<testcase classname="parity_tests.test_a" name="test_f[two]" time="0.1"/>
<testcase classname="parity_tests.test_a" name="test_f[three]" time="0.9"/>
<testcase classname="parity_tests.test_a" name="test_f[four]" time="2.5"/>
<testcase classname="parity_tests.test_b" name="test_g[one]" time="3"/>
<testcase classname="parity_tests.test_b" name="test_h" time="9"/>
</testsuite></testsuites>"""


def test_the_cheapest_cases_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    report = tmp_path / "costs.xml"
    report.write_text(TIMES)
    assert slow.too_expensive(report) == {"parity_tests/test_a.py::test_f[one]", "parity_tests/test_a.py::test_f[four]"}
    assert not slow.too_expensive(report, "long")
    monkeypatch.setattr(slow, "ROOM", {"parity_tests/test_a.py::test_f": 3.0})
    assert slow.too_expensive(report, "long") == {"parity_tests/test_a.py::test_f[four]"}


def test_listed_cases_exist_and_have_their_like(request: pytest.FixtureRequest):
    if request.config.args != request.config.getini("testpaths") or request.config.option.keyword:
        pytest.skip("looks at runs of the whole suite only")
    collected = request.config.stash[slow.COLLECTED]
    files = {name.partition("::")[0] for name in collected}
    runs = {item.nodeid for item in request.session.items}
    for mark, others, command in (("slow", runs, "make test"), ("long", collected, "make test and make test-slow")):
        # without torch, some files have no tests
        listed = {name for name in slow.listed(mark) if name.partition("::")[0] in files}
        assert not listed - collected, f"{mark}_cases.txt names cases that do not exist (any more)"
        have = {name.partition("[")[0] for name in others - slow.listed(mark)}
        assert not {name.partition("[")[0] for name in listed} - have, f"of these functions, {command} run no case"
