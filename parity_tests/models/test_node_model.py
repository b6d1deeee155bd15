"""The models of HGCN's code base against what that code computed, and their checks of arguments."""

from pathlib import Path

import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.models import cases_gat, cases_gcn, cases_mlp
from parity_tests.models.fixtures import check_folder
from parity_tests.models.graph_models import GRAPH, NODES, Frame, X
from port_jax.graphs import Graph
from port_jax.models import GCN, HGCN, Shallow
from reference_torch.models.hgcn import HGCN as Original
from weights.checkpoint import load
from weights.errors import Unmatched

FOLDER = Path(__file__).parents[3] / "shared" / "fixtures" / "airport_nc_poincare"


@pytest.mark.skipif(not FOLDER.exists(), reason=f"{FOLDER} is not here: the authors' checkpoints are no part of this project")
def test_checkpoint_of_the_authors():
    assert check_folder(FOLDER) == []


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="manifold: found 'Lorentz'"):
        HGCN(5, n_classes=2, manifold="Lorentz")
    with pytest.raises(ValueError, match="n_classes=None"):
        HGCN(5)
    with pytest.raises(ValueError, match="c: found 0"):
        HGCN(5, n_classes=2, c=0.0)
    model = GCN(X.shape[1], task="lp")
    variables = model.init(draws.key(0), X, GRAPH)
    with pytest.raises(ValueError, match="x: found shape"):
        model.apply(variables, X[:, :2], GRAPH)
    bad = X.copy()
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"index \(2, 1\)"):
        model.apply(variables, bad, GRAPH)
    with pytest.raises(ValueError, match=r"graph\.weights"):
        model.apply(variables, X, Graph.from_edges([0], [1], num_nodes=NODES))
    with pytest.raises(ValueError, match="n_nodes"):
        Shallow(5, task="lp")


def test_links_between_far_points_of_the_hyperboloid_have_a_least_probability():
    """HGCN's code takes a squared distance for 50 at most: here it is 100, and the probability 1 / (exp((50 - r) / t) + 1)."""
    points = np.array([[np.cosh(5), np.sinh(5)], [np.cosh(5), -np.sinh(5)], [1.0, 0.0]])
    options = {"task": "lp", "num_layers": 0, "manifold": "Hyperboloid", "c": 1.0, "r": 2.0, "t": 30.0}
    pairs = np.array([[0, 1], [0, 2]])
    have = HGCN(2, **options).apply({}, points, pairs, method="score")
    np.testing.assert_allclose(have, 1 / (np.exp((np.array([50.0, 25.0]) - 2) / 30) + 1), rtol=1e-12)
    theirs = Original(2, **options).score(torch.as_tensor(points), torch.as_tensor(pairs))
    np.testing.assert_allclose(theirs, have, rtol=1e-7)


@pytest.mark.parametrize("frame", [cases_mlp.FRAME, cases_gcn.FRAME, cases_gat.FRAME], ids=["mlp", "gcn", "gat"])
def test_flat_embeddings_are_not_taken_for_points(frame: Frame, tmp_path: Path):
    """HGCN's code reads an MLP's output as points of the ball, where its clamps make the numbers: logits differed by 0.7."""
    for name in frame.configs:
        flat = {**frame.config(name), "c": 0.7}
        torch.save(frame.module(flat).state_dict(), tmp_path / "x.pth")
        config = {**flat, "manifold": "PoincareBall"}
        if frame is not cases_mlp.FRAME and config["task"] == "nc":
            load(tmp_path / "x.pth", config=config)
        else:
            with pytest.raises(Unmatched, match=r"manifold is 'PoincareBall'.* flat vectors.*HGCN"):
                load(tmp_path / "x.pth", config=config)
