"""What CONTRIBUTING.md shows is done as it says: files created, tables edited, tests run; and an error planted in each example is caught.

The new files stand in a temporary folder that extends the packages' paths, so that they are imported under their names. An edited
module is executed again from its edited source, and until these tests end the module has what that adds.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from parity_tests import draws
from parity_tests.optim import trajectories
from parity_tests.optim.option_table import rows_of

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"^```python\n# ([\w/]+\.py)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
EDITS = dict(re.findall(r"^```diff\n# ([\w/]+\.py)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))


def edited(path: str) -> str:
    """A source after the document's edits; each place that an edit names is there exactly once."""
    source = (ROOT / path).read_text()
    for hunk in EDITS[path].split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old, new = ("".join(line[1:] or "\n" for line in lines if line[0] in kinds) for kinds in (" -\n", " +\n"))
        assert source.count(old) == 1, f"{path} has {source.count(old)} times:\n{old}"
        source = source.replace(old, new)
    return source


def module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def executed(path: str, source: str) -> dict[str, Any]:
    """The names of a module with this source."""
    names: dict[str, Any] = {"__name__": module_of(path), "__file__": str(ROOT / path)}
    exec(compile(source, path, "exec"), names)
    return names


@pytest.fixture(scope="module", autouse=True)
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project with all examples in it; the folder of their files."""
    root = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "stream", draws.rng)  # a stream is made before the first test
        for path, text in FILES.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        for folder in {Path(path).parent for path in FILES}:
            package = importlib.import_module(folder.as_posix().replace("/", "."))
            patch.setattr(package, "__path__", [*package.__path__, str(root / folder)])
        for path in sorted(EDITS, key=lambda path: (not path.endswith("__init__.py"), path)):
            if not Path(path).name.startswith("test_"):
                _renew(patch, importlib.import_module(module_of(path)), executed(path, edited(path)))
        yield root
    for path in FILES:
        package, _, name = module_of(path).rpartition(".")
        sys.modules.pop(module_of(path), None)
        vars(sys.modules[package]).pop(name, None)


def _renew(patch: pytest.MonkeyPatch, module: ModuleType, names: dict[str, Any]) -> None:
    """Gives a module what its edited source adds: names, and keys of tables, which others have imported."""
    for name, value in names.items():
        known = getattr(module, name, None)
        if name == "__all__" or known is None or isinstance(known, ModuleType):  # a submodule gives the package its own name first
            patch.setattr(module, name, value, raising=False)
        elif isinstance(value, dict) and isinstance(known, dict):
            for key in value.keys() - known.keys():
                patch.setitem(known, key, value[key])


def examples_of(path: str) -> dict[str, Any]:
    """The test functions of an example's own test file, imported anew."""
    return {name: f for name, f in executed(path, FILES[path]).items() if name.startswith("test_")}


def laws() -> dict[str, Any]:
    return executed("parity_tests/manifolds/test_laws.py", edited("parity_tests/manifolds/test_laws.py"))


def planted(path: str, old: str, new: str) -> dict[str, Any]:
    """The names of an example with an error in it."""
    assert FILES[path].count(old) == 1
    return executed(path, FILES[path].replace(old, new))


@pytest.mark.parametrize("path", FILES)
def test_the_examples_pass_lint(path: str):
    # Not the order of imports, for which ruff looks the new modules up.
    for command in (("check", "--quiet", "--ignore", "I001"), ("format", "--diff", "--quiet")):
        ruff = (sys.executable, "-m", "ruff", *command, "--no-cache", "--stdin-filename", path, "-")
        done = subprocess.run(ruff, cwd=ROOT, input=FILES[path], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def as_it_is(path: str) -> dict[str, Any]:
    """The names of a test file without the document's edits. Test files do not import each other."""
    return executed(path, (ROOT / path).read_text())


@pytest.mark.parametrize("path", [path for path in FILES if path.startswith("port_jax/")])
def test_the_examples_list_and_document_what_they_offer(path: str):
    surface = as_it_is("parity_tests/test_public_surface.py")
    module = importlib.import_module(module_of(path))
    assert not surface["faults"](module)
    assert not [name for name, value in surface["definitions"](module) if not surface["documented"](value)]


def looking_at(root: Path, names: dict[str, Any]) -> dict[str, Any]:
    """The names of test_house.py, whose functions look at the files below `root`."""
    names["ROOT"] = root
    return names


def rules(root: Path) -> dict[str, Any]:
    """Those of test_house.py after the document's edits."""
    return looking_at(root, executed("parity_tests/test_house.py", edited("parity_tests/test_house.py")))


@pytest.mark.parametrize("subject", ["layers", "models", "optim"])
def test_the_examples_have_their_counterparts(subject: str, house: Path):
    rules(house)["test_each_stem_has_its_rooms"](subject)


def test_an_optimizer_without_its_row_is_seen(house: Path):
    names = looking_at(house, as_it_is("parity_tests/test_house.py"))
    with pytest.raises(AssertionError, match=r"riemannian_lion\.py has no reference_torch"):
        names["test_each_stem_has_its_rooms"]("optim")


def test_the_examples_import_only_what_they_may(house: Path):
    names = rules(house)
    for room in names["FORBIDDEN"]:
        names["test_rooms_import_only_what_they_may"](room)


def test_the_manifold_obeys_every_law():
    names = laws()
    assert set(names["laws_of"]("PositiveOrthant")) == {*names["laws"].LAWS} - {"vector_transport"}
    names["test_laws"]("PositiveOrthant")


def test_the_manifold_is_geoopts_where_that_has_it():
    found = examples_of("parity_tests/manifolds/test_positive_orthant.py")
    compare = found["test_geoopts_diagonal_matrices"]
    for operation in compare.pytestmark[0].args[1]:
        compare(operation)
    found["test_derivatives_at_coincident_points_are_finite"]()


def test_a_manifold_with_an_error_breaks_a_law():
    path, names = "port_jax/manifolds/positive_orthant.py", laws()
    wrong = planted(path, "return v * (y / x)", "return v")["PositiveOrthant"]
    subject = replace(names["SUBJECTS"]["PositiveOrthant"], build=lambda p: wrong())
    draw = names["arguments"](subject, 3, [-0.5, 0.3, 1.0, -1.0], 0.8, 0.6)
    assert "transport: isometry" in names["violations"](subject, ("transport",), draw)


@pytest.mark.slow  # what it checks of the examples, the laws and Lion's own tests check as well
def test_the_optimizers_take_geoopts_steps_on_the_manifold():
    results, wrong = trajectories.compare(rows_of("SGD")[2], 10, ["PositiveOrthant"])
    assert {result.space for result in results} == {"PositiveOrthant"}
    assert not wrong, "\n".join(wrong)


def test_the_optimizer_takes_the_right_steps():
    found = examples_of("parity_tests/optim/test_riemannian_lion.py")
    assert len(found) == 2
    for test in found.values():
        test()


def test_an_optimizer_with_an_error_takes_wrong_steps(monkeypatch: pytest.MonkeyPatch):
    wrong = planted("port_jax/optim/riemannian_lion.py", "square = manifold.component_inner(point, d)", "square = d * d")
    monkeypatch.setattr("port_jax.optim.riemannian_lion", wrong["riemannian_lion"])
    found = examples_of("parity_tests/optim/test_riemannian_lion.py")
    found["test_flat_parameters_take_optaxs_steps"]()
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        found["test_a_step_on_the_ball_is_the_formula"]()


def test_the_architecture_is_converted_verified_and_written_back(tmp_path: Path):
    found = examples_of("parity_tests/models/test_point_classifier.py")
    found["test_a_file_converted_compared_and_written_back"](tmp_path)


ERRORS = {
    "a rule without its layout": (
        '*linear("head.linear", "params/head/linear"),',
        'param("head.linear.weight", "params/head/linear/kernel"), param("head.linear.bias", "params/head/linear/bias"),',
    ),
    "a key without a rule": ('tied("head.ball.isp_c", "ball.isp_c"),', ""),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_table_with_an_error_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from weights import Unmatched
    from weights.models import ARCHITECTURES

    wrong = planted("weights/models/point_classifier.py", *ERRORS[name])
    monkeypatch.setitem(ARCHITECTURES, "point_classifier", wrong["POINT_CLASSIFIER"])
    found = examples_of("parity_tests/models/test_point_classifier.py")
    with pytest.raises(Unmatched, match=r"head\.(linear\.weight|ball\.isp_c)"):
        found["test_a_file_converted_compared_and_written_back"](tmp_path)
