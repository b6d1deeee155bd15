"""A file's run on geoopt's own manifolds goes on as its original: from the file, after saving and restoring, and back in torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import geoopt
import jax
import numpy as np
import pytest
import torch

import weights
from parity_tests import slow
from parity_tests.optim.from_torch.originals import BEFORE, DENSE, Run, follow, loaded
from parity_tests.optim.spaces import ORIGINALS
from port_jax.manifolds import CanonicalStiefel, Sphere
from weights.proof.verify import verify
from weights.views import inspect

NAMES = ("CanonicalStiefel", "BirkhoffPolytope", "UpperHalf", "BoundedDomain", "ProductManifold", "Scaled(Lorentz)", "Sphere(intersection)",
         "SymmetricPositiveDefinite")  # fmt: skip
"""What geoopt has wrong, and what a folder describes by more than numbers."""


def saved(path: Path, run: Run) -> Path:
    torch.save({"model": {n: p.detach().clone() for n, p in run.points.items()}, "optimizer": run.optimizer.state_dict()}, path)
    return path


CASES = [("sgd stabilized", "BoundedDomain SymmetricPositiveDefinite"), *((name, "") for name in DENSE if name != "groups")]


@pytest.mark.parametrize(("name", "left_out"), slow.all_but(CASES[:1], CASES))
def test_a_file_goes_on_as_its_original_and_back(tmp_path: Path, name: str, left_out: str):
    """Six steps from the file, six after saving and restoring, six in torch from the export: those of one run of geoopt's own classes."""
    spaces = {f"m{i}": ORIGINALS[kind] for i, kind in enumerate(NAMES) if kind not in left_out.split()}
    run = Run(spaces, DENSE[name], np.float64, {n: s.start for n, s in spaces.items()}).run(BEFORE)
    manifolds = {n: s.of_port(np.float64) for n, s in spaces.items()}
    begun, ckpt = run.values(), weights.load(saved(tmp_path / "x.pth", run), arch="tree", manifolds=manifolds)
    for key, sentence in {"CanonicalStiefel": "doubles", "BirkhoffPolytope": "y * v", "Lorentz": "1e-4", "UpperHalf": "both sides"}.items():
        assert any(f"On {key}, " in s and sentence in s and s.endswith(".") for s in ckpt.report["optimizer"]["defects"])
    ckpt.save(tmp_path / "converted")
    for _ in range(2):
        went = follow(run, ckpt.optimizer, ckpt.opt_state, ckpt.variables["params"], 6)
        want = run.run(6).values()
        for n, found in went.points.items():
            np.testing.assert_allclose(found, want[n], rtol=0, atol=1e-10 * np.abs(want[n] - begun[n]).max(), err_msg=n)
        replace(ckpt, variables={"params": jax.tree.map(np.asarray, went.points)}, opt_state=went.state).save(tmp_path / "converted")
        ckpt = weights.restore(tmp_path / "converted")
        assert ckpt.report["optimizer"]["defects"]
    weights.export(ckpt, tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth")
    again = loaded(DENSE[name], back["optimizer"], {n: x.numpy() for n, x in back["model"].items()}, spaces, run.steps).run(6).values()
    want = run.run(6).values()
    for n, found in again.items():
        np.testing.assert_allclose(found, want[n], rtol=0, atol=1e-10 * np.abs(want[n] - begun[n]).max(), err_msg=n)


def file_of(path: Path, manifold: Any, steps: int = 3) -> Path:
    """A file with two frames in a run that is stabilised after every second step."""
    space = ORIGINALS["CanonicalStiefel"] if isinstance(manifold, geoopt.CanonicalStiefel) else ORIGINALS["Sphere"]
    make = lambda p: geoopt.optim.RiemannianAdam(list(p.values()), lr=1e-2, stabilize=2)  # noqa: E731
    return saved(path, Run({"x": space}, make, np.float64, {"x": space.start}).run(steps))


def test_the_report_names_the_defect_where_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = file_of(tmp_path / "x.pth", geoopt.CanonicalStiefel())
    ckpt = weights.load(path, arch="tree", manifolds={"x": CanonicalStiefel()})
    [sentence] = ckpt.report["optimizer"]["defects"]
    assert sentence == (
        "On CanonicalStiefel, stabilize doubles the part of a momentum in the span of its frame: geoopt's proju is not a projection."
    )
    inspect.show_converted(ckpt, tmp_path / "out")
    assert f"as in geoopt: {sentence}" in " ".join(capsys.readouterr().out.split())
    other = weights.load(file_of(tmp_path / "y.pth", geoopt.Sphere()), arch="tree", manifolds={"x": Sphere()})
    assert "defects" not in other.report["optimizer"]


def test_verify_agrees_with_the_original(tmp_path: Path):
    """Ten steps with `stabilize`, in torch by geoopt's own manifold."""
    path = file_of(tmp_path / "x.pth", geoopt.CanonicalStiefel())
    rows = verify(weights.load(path, arch="tree", manifolds={"x": CanonicalStiefel()}), path)
    assert {row.level for row in rows} >= {"step"}
    assert all(row.ok for row in rows), rows
