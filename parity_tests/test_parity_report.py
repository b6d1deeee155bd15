"""The page of `make parity` has every pair, its numbers are those of the tests, and what it does not cover is listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("geoopt")

from parity_tests.models.planted_errors import CASES
from parity_tests.optim.option_table import KINDS, rows_of
from parity_tests.optim.trajectories import SNAPSHOTS, Result
from parity_tests.oracle import exceptions
from parity_tests.report import documents, layers, models, optimizers
from parity_tests.report.__main__ import made
from weights.models import ARCHITECTURES
from weights.proof import report_page
from weights.proof.report import Pair
from weights.proof.verify import TYPES

ROOT = Path(__file__).parent.parent


def test_every_difference_and_every_line_of_the_accuracy_table():
    differences, accuracy = documents.differences(), documents.accuracy()
    rows = [line for line in (ROOT / "docs" / "differences.md").read_text().splitlines() if line.startswith("| ")]
    assert len(differences) == len(rows) - 2 > 50
    assert all(row.case and row.original and row.port and row.truth and row.resumed and "test_" in row.test for row in differences)
    assert any("|u| = 3" in row.case for row in differences), "an escaped bar"
    assert len(accuracy) == len((ROOT / "accuracy" / "table.csv").read_text().splitlines()) - 1
    noted = {(row.space, row.operation, row.of, row.dtype) for row in accuracy if row.note}
    assert noted == {key for group in (*exceptions.ABOVE, *exceptions.BEYOND) for key in group.rows()}


def test_every_pair_of_the_suite_is_there():
    assert {name.partition(" ")[0] for name in CASES} == {*ARCHITECTURES, "tree"}
    assert optimizers.NAMES.keys() == KINDS.keys()
    twins = layers.twins()
    assert len(twins) > 20
    assert len({(type(twin.layer), twin.name, twin.space) for twin in twins}) == len(twins), "two pairs of one name"


def test_what_has_no_pair_is_listed():
    originals = {path.relative_to(ROOT / "reference_torch").with_suffix("").as_posix() for path in (ROOT / "reference_torch").rglob("*.py")}
    assert {*documents.BESIDE, *documents.THROUGH} <= originals
    of_models = [Pair(name, "model", "", f"reference_torch.models.{name}.Class", ()) for name in ("hgcn", "gat")]
    listed = {one.what for one in documents.not_covered(of_models)}
    assert "reference_torch/optim/schedules.py" in listed
    assert "reference_torch/models/hnn.py" in listed
    assert not {"reference_torch/models/hgcn.py", "reference_torch/models/gat.py", "reference_torch/torch_file.py"} & listed
    assert "float16 and bfloat16" in listed


def test_a_layer_and_its_page():
    """A right layer passes, one that is a thousandth off fails."""
    twin = next(twin for twin in layers.twins() if "activation in space" in twin.name)
    (right,) = layers.pairs([twin])
    assert right.status == "ok"
    assert {(row.level, row.dtype) for row in right.rows} == {(level, dtype) for level in layers.LEVELS for dtype in TYPES}
    assert all(row.ulp is not None for row in right.rows)
    wrong = replace(twin, ours=lambda layer, params, manifold, points: 1.001 * twin.ours(layer, params, manifold, points))
    (pair,) = layers.pairs([wrong])
    assert {row.dtype for row in pair.rows if not row.ok} == {"float64", "float32"}
    page = report_page.page(made([right, replace(pair, name="wrong")]), "index.json")
    assert "Differences on purpose" in page
    assert "comparisons failed" in page


def test_what_misses_its_gate_belongs_to_its_manifold():
    """Names of manifolds begin alike, and moments are named before them."""
    options = rows_of("Adam")[0]
    figures = (1e-12, 1e-6, 1e-5, 1e-6, 1e-6, 2e-6)
    results = [Result(space, steps, *figures) for space in ("Ball", "Scaled Ball", "Balls", "All Balls") for steps in SNAPSHOTS[:2]]
    wrong = ["exp_avg of Ball after 10 steps in float64: no", "All Balls after 1 steps in float32: no"]
    rows = list(optimizers._rows(options, results, wrong))
    assert [(row.what.partition(" (")[0], row.dtype) for row in rows if not row.ok] == [("Ball", "float64"), ("All Balls", "float32")]
    assert [step for step, _, _ in rows[0].trail] == [1, 10]


@pytest.mark.slow  # test_trajectories.py and test_verify.py compare the same
def test_a_model_and_an_optimizer():
    (model,) = models.pairs(("tree",))
    (optimizer,) = optimizers.pairs(rows_of("SparseSGD")[:1])
    assert (model.status, optimizer.status) == ("ok", "ok")
    assert {row.level for row in model.rows} == {"bits", "settings", "forward", "grad", "step"}
    assert [step for step, _, _ in optimizer.rows[0].trail] == [1, 10, 100]
