"""Splits: every edge in one part, false pairs that are none, the same for the same seed."""

import numpy as np
import pytest
from scipy import stats

from parity_tests import draws
from parity_tests.tolerances import CHANCE
from port_jax.data import load_graph, sample_negatives, split_edges, split_nodes


def keys(pairs: np.ndarray) -> set[tuple[int, int]]:
    return {(min(p), max(p)) for p in pairs.tolist()}


def test_edges_are_shared_out_and_false_pairs_are_no_edges():
    data = load_graph()
    split = split_edges(data.edges, data.num_nodes, seed=draws.seed(3))
    parts = [keys(split.train), keys(split.val), keys(split.test)]
    assert parts[0] | parts[1] | parts[2] == keys(data.edges.T)
    assert sum(map(len, parts)) == sum(map(len, (split.train, split.val, split.test))) == data.edges.shape[1]
    assert (len(split.val), len(split.test)) == (int(0.05 * data.edges.shape[1]), int(0.1 * data.edges.shape[1]))
    false = np.concatenate([split.val_false, split.test_false])
    assert len(keys(false)) == len(false) == len(split.val) + len(split.test)
    assert not keys(false) & keys(data.edges.T)
    assert (false[:, 0] != false[:, 1]).all()
    given = set(map(tuple, data.edges.T.tolist()))
    assert all(tuple(pair) in given for pair in split.train.tolist())  # in the direction they came in
    again, other = (split_edges(data.edges, data.num_nodes, seed=draws.seed(s)) for s in (3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(split, again))
    assert not np.array_equal(split.val, other.val)


def test_both_directions_of_an_edge_stay_in_one_part():
    edges = np.array([[0, 1, 2, 3, 4, 1, 2, 5], [1, 2, 3, 4, 0, 0, 1, 5]])
    split = split_edges(edges, 6, val_prop=0.2, test_prop=0.4)
    assert [len(part) for part in split] == [2, 1, 1, 2, 2]
    # HGCN cuts shares of edges off: of five edges, 1.75 are one and 1.9 are one.
    assert [len(part) for part in split_edges(edges, 6, val_prop=0.35, test_prop=0.38)] == [3, 1, 1, 1, 1]


def test_negatives_are_uniform_over_the_pairs_without_an_edge():
    """chi^2 over the 9 free pairs of 6 nodes: 9,000 draws, 8 degrees of freedom."""
    edges = np.array([[0, 1, 2, 3, 4, 0, 2], [1, 2, 3, 4, 5, 5, 2]])
    drawn = np.concatenate([sample_negatives(edges, 6, 3, seed=draws.seed(s)) for s in range(3000)])
    pairs, counts = np.unique(np.sort(drawn, 1), axis=0, return_counts=True)
    assert len(pairs) == 9
    assert stats.chisquare(counts).pvalue > CHANCE
    assert len(keys(sample_negatives(edges, 6, 9))) == 9
    with pytest.raises(ValueError, match="only 9 pairs of 6 nodes"):
        sample_negatives(edges, 6, 10)


def test_nodes_are_shared_out_class_by_class():
    labels = draws.rng(0).permutation(np.repeat([0, 1, 2], [100, 40, 20]))
    split = split_nodes(labels, seed=draws.seed(1))
    assert np.array_equal(np.sort(np.concatenate(split)), np.arange(160))
    assert [np.bincount(labels[part]).tolist() for part in split] == [[70, 28, 14], [15, 6, 3], [15, 6, 3]]
    assert all(np.array_equal(a, b) for a, b in zip(split, split_nodes(labels, seed=draws.seed(1))))
    # HGCN rounds shares of nodes: 15.45 and 8.24 of 103, 5.55 and 2.96 of 37, 2.7 and 1.44 of 18.
    labels = draws.rng(0).permutation(np.repeat([0, 1, 2], [103, 37, 18]))
    parts = split_nodes(labels, val_prop=0.15, test_prop=0.08, seed=draws.seed(1))
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[80, 28, 14], [15, 6, 3], [8, 3, 1]]
    with pytest.raises(ValueError, match="below 1"):
        split_nodes(labels, val_prop=0.5, test_prop=0.5)


def test_shares_of_a_class_are_rounded():
    """0.15 of 11, 10 and 3 nodes are 1.65, 1.5 and 0.45, and halves go to the even number."""
    labels = draws.rng(1).permutation(np.repeat([0, 1, 2], [11, 10, 3]))
    split = split_nodes(labels, val_prop=0.15, test_prop=0.15, seed=draws.seed(1))
    assert [np.bincount(labels[part], minlength=3).tolist() for part in split] == [[7, 6, 3], [2, 2, 0], [2, 2, 0]]
