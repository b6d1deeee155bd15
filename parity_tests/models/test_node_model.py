"""The models of HGCN's code base against what that code computed, and their checks of arguments."""

from pathlib import Path

import numpy as np
import pytest

from parity_tests import draws
from parity_tests.models.fixtures import check_folder
from parity_tests.models.graph_models import GRAPH, NODES, X
from port_jax.graphs import Graph
from port_jax.models import GCN, HGCN, Shallow

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
