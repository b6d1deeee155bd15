"""StereographicTreeDataset: geoopt's shapes and labels, and the distances that the tree is grown with."""

import geoopt
import jax
import numpy as np
import pytest
from geoopt.datasets.stereographic import StereographicTreeDataset as Theirs

from parity_tests import draws, slow
from port_jax.data.stereographic_tree import StereographicTreeDataset
from port_jax.manifolds import PoincareBall


@pytest.mark.parametrize(("dim", "children", "siblings"), slow.all_but({(2, 2, 3)}, [(2, 2, 3), (3, 3, 1)]))
def test_tree(dim, children, siblings):
    draws.seed_torch(0)
    theirs = Theirs(geoopt.PoincareBall(), dim, 3, children, 0.6, 0.1, siblings)
    ball = PoincareBall(1.0)
    mine = StereographicTreeDataset(draws.key(0), ball, dim, 3, children, 0.6, 0.1, siblings)
    assert len(mine) == len(theirs)
    assert mine.num_classes == theirs.num_classes
    for name in ("origin_data", "data", "origin_labels", "labels"):
        assert getattr(mine, name).shape == tuple(getattr(theirs, name).shape)
    np.testing.assert_array_equal(mine.labels, theirs.labels)
    np.testing.assert_array_equal(mine.origin_labels, theirs.origin_labels)
    parents = (np.arange(1, len(mine.origin_data)) - 1) // children
    dist = jax.jit(ball.dist)
    steps = dist(mine.origin_data[parents], mine.origin_data[1:])
    np.testing.assert_allclose(steps, 0.6, rtol=1e-4)
    if dim == 2:
        pairs = mine.origin_data[1:].reshape(-1, 2, 2)
        np.testing.assert_allclose(dist(pairs[:, 0], pairs[:, 1]), 1.2, rtol=1e-4)
    assert ball.check_point_on_manifold(mine.data)
    x, path, node = mine[5]
    assert x.shape == (dim,)
    assert node == path.max()


def test_bad_input():
    with pytest.raises(ValueError, match="depth is 0; give a whole number of at least 1"):
        StereographicTreeDataset(draws.key(0), PoincareBall(1.0), 2, 0)
