"""Closures of hierarchies against networkx, and batches with negatives."""

import jax
import jax.numpy as jnp
import networkx
import numpy as np
import pytest
from scipy import stats

from parity_tests import draws
from parity_tests.tolerances import CHANCE
from port_jax.data import ranking_batch, transitive_closure


def test_closure_of_a_dag_equals_networkx():
    """Several ways from one node to another, repeated edges, nodes without any."""
    rng = draws.rng(0)
    edges = np.sort(rng.integers(0, 40, (2, 90)), 0)
    edges = rng.permutation(40)[edges[:, edges[0] != edges[1]]]
    edges = np.concatenate([edges, edges[:, :3]], 1)
    found = transitive_closure(edges, 45)
    expected = networkx.transitive_closure(networkx.DiGraph(list(map(tuple, edges.T))))
    assert sorted(map(tuple, found.tolist())) == sorted(expected.edges) == list(map(tuple, found.tolist()))
    assert len(found) > edges.shape[1]


def test_closure_of_a_tree_counts_depths():
    parents = draws.rng(1).integers(0, np.arange(1, 3000))
    depth = np.zeros(3000, int)
    for child, parent in enumerate(parents, 1):
        depth[child] = depth[parent] + 1
    found = transitive_closure(np.stack([np.arange(1, 3000), parents]), 3000)
    np.testing.assert_array_equal(np.bincount(found[:, 0], minlength=3000), depth)


def test_nothing_to_close():
    assert transitive_closure(np.zeros((2, 0), int), 3).shape == (0, 2)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (np.array([[0, 1, 2, 4], [1, 2, 0, 3]]), "from node 0 back to it"),
        (np.array([[0], [0]]), "from node 0 back"),
        (np.array([[0], [7]]), r"0 to 7: pass indices in \[0, 5\)"),
        (np.zeros((3, 2), int), r"shape \(3, 2\)"),
    ],
    ids=["cycle", "loop", "range", "shape"],
)
def test_what_is_no_hierarchy(edges, message):
    with pytest.raises(ValueError, match=message):
        transitive_closure(edges, 5)


def test_batches_have_the_pairs_in_front_and_uniform_negatives():
    pairs = jnp.asarray(draws.rng(2).integers(0, 8, (2000, 2)))
    found = np.asarray(jax.jit(ranking_batch, static_argnums=(2, 3))(draws.key(0), pairs, 8, 10))
    assert found.shape == (2000, 12)
    np.testing.assert_array_equal(found[:, :2], pairs)
    counts = np.bincount(found[:, 2:].ravel(), minlength=8)
    assert counts.shape == (8,)
    assert stats.chisquare(counts).pvalue > CHANCE
