"""`verify` on every architecture: it passes what was converted rightly, and sees a wrong sign, order, transpose, curvature or count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from parity_tests import slow
from parity_tests.models.conversion import trained
from parity_tests.models.planted_errors import CASES, load_ball
from parity_tests.weights.helpers import run
from weights.checkpoint import load
from weights.errors import Usage
from weights.models import ARCHITECTURES
from weights.proof.verify import TYPES, verify

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"


def levels(rows: Any) -> set[str]:
    return {row.level for row in rows if not row.ok}


QUICK = pytest.param("mlp", TYPES[:1], id="mlp in float64")
"""What `make test` runs; each kind of model is verified there by the tests of its own."""
SELECTED = slow.all_but(lambda case: case is QUICK, [QUICK, *(pytest.param(arch, TYPES, id=arch) for arch in CASES)])


@pytest.mark.parametrize(("arch", "types"), SELECTED)
def test_a_right_conversion_passes_and_wrong_ones_fail(arch: str, types: tuple[str, ...], tmp_path: Path):
    case = CASES[arch]
    module, config = case.make()
    path = trained(module.eval(), case.optimizer(module.parameters(), lr=0.01), tmp_path, case.run)
    options = {"arch": "tree", "manifolds": {"emb": load_ball(path)}} if arch == "tree" else {"config": config}
    ckpt = load(path, **options, **case.options)
    assert ckpt.arch == arch.partition(" ")[0]
    rows = verify(ckpt, path, types=types)
    assert not levels(rows), [row for row in rows if not row.ok]
    keys = {e.key for e in ckpt.entries if e.role == "parameter"}
    for level in ("grad", "step"):
        assert {row.what for row in rows if row.level == level} == keys, "every parameter is compared, in the file's own optimizer"
    for name, plant in case.plants.items():
        assert "forward" in levels(verify(plant(ckpt), path, level="forward", types=("float64",))), name
    assert "step" in levels(verify(case.misled(ckpt), path, types=("float64",))), "steps"


def test_every_architecture_is_verified():
    assert {name.partition(" ")[0] for name in CASES} == {*ARCHITECTURES, "tree"}


def test_a_graph_is_refused_where_none_is_taken(tmp_path: Path):
    module, config = CASES["hybonet_kg"].make()
    path = tmp_path / "model.pth"
    torch.save(module.state_dict(), path)
    with pytest.raises(Usage, match="takes no graph"):
        verify(load(path, config=config), path, tmp_path / "graph.npz", level="forward")


@pytest.mark.slow  # what these files' code computed is compared in test_node_model.py and test_hybonet.py
@pytest.mark.parametrize("file", ["airport_nc_poincare/model.pth", "hybonet_disease_lp_att/full.pth"])
def test_checkpoints_of_the_authors_by_the_command_line(file: str, monkeypatch, capsys):
    path = FIXTURES / file
    if not path.exists():
        pytest.skip(f"{path} is not here: the authors' checkpoints are no part of this project")
    code, out, err = run(monkeypatch, capsys, "verify", path, "--config", path.parent / "config.json")
    assert code == 0, out + err
