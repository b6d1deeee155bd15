"""The neighbour sampler: its shapes, its edges, and its law."""

from __future__ import annotations

import tracemalloc

import jax
import numpy as np
import pytest
from scipy import stats

from parity_tests import draws
from parity_tests.tolerances import CHANCE, DEVIATIONS
from port_jax.data import NeighborSampler
from port_jax.graphs import Graph, segment_sum


def _graph(weights=True):
    """60 nodes with 0 to 12 incoming edges each, self loops among them."""
    rng = draws.rng(0)
    receivers = np.repeat(np.arange(60), rng.integers(0, 13, 60))
    senders = rng.integers(0, 60, len(receivers))
    pairs = np.unique(np.stack([senders, receivers]), axis=1)
    w = rng.uniform(0.5, 2, pairs.shape[1]).astype(np.float32) if weights else None
    return Graph.from_edges(*pairs, num_nodes=60, weights=w)


def _edges(batch, sampler):
    """(sender, receiver) in the whole graph's names, without those that fill up."""
    s, r = np.asarray(batch.graph.senders), np.asarray(batch.graph.receivers)
    real = r != sampler.max_nodes - 1
    return np.stack([batch.nodes[s[real]], batch.nodes[r[real]]], 1), np.flatnonzero(real)


def test_batches_have_one_shape_and_only_edges_of_the_graph():
    graph = _graph()
    sampler = NeighborSampler(graph, fanouts=(3, 2), batch_size=7, seeds=np.arange(5, 45), seed=draws.seed(0))
    known = set(zip(np.asarray(graph.senders).tolist(), np.asarray(graph.receivers).tolist(), strict=True))
    shapes, seen = set(), []
    assert sampler.steps_per_epoch == 6
    for number in range(2 * sampler.steps_per_epoch):
        batch = sampler(number)
        shapes.add((jax.tree.structure(batch), tuple(x.shape for x in jax.tree.leaves(batch))))
        pairs, _ = _edges(batch, sampler)
        assert set(map(tuple, pairs.tolist())) <= known
        assert len(np.unique(pairs, axis=0)) == len(pairs)
        seeds = batch.nodes[: sampler.batch_size][batch.mask]
        for node in seeds:
            expected = min(3, int((np.asarray(graph.receivers) == node).sum()))
            assert (pairs[:, 1] == node).sum() == expected
        seen.append(seeds)
    assert len(shapes) == 1
    for epoch in (seen[:6], seen[6:]):
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), np.arange(5, 45))
    assert np.concatenate(seen[:6]).tolist() != np.concatenate(seen[6:]).tolist()


def test_a_number_gives_the_same_batch_each_time():
    sampler = NeighborSampler(_graph(), fanouts=(3, 2), batch_size=7, seed=draws.seed(0))
    again = NeighborSampler(_graph(), fanouts=(3, 2), batch_size=7, seed=draws.seed(0))
    again(5)
    jax.tree.map(np.testing.assert_array_equal, sampler(3), again(3))


def test_each_subset_of_neighbours_is_equally_likely():
    """Chi-squared over the subsets of 2 of 5 neighbours: 10 of them, 1,500 draws."""
    graph = Graph.from_edges(np.arange(1, 6), np.zeros(5, int), num_nodes=6)
    sampler = NeighborSampler(graph, fanouts=(2,), batch_size=1, seeds=[0], seed=draws.seed(0))
    counts: dict[tuple, int] = {}
    for number in range(1500):
        pairs, _ = _edges(sampler(number), sampler)
        chosen = tuple(sorted(pairs[:, 0].tolist()))
        counts[chosen] = counts.get(chosen, 0) + 1
    assert len(counts) == 10
    assert stats.chisquare(list(counts.values())).pvalue > CHANCE


def test_weighted_sums_have_the_mean_of_the_whole_graph():
    graph = _graph()
    x = draws.rng(1).standard_normal(60).astype(np.float32)
    whole = np.asarray(segment_sum(graph.weights * x[np.asarray(graph.senders)], graph))
    sampler = NeighborSampler(graph, fanouts=(3,), batch_size=60, seed=draws.seed(0))
    sums = np.zeros((400, 60))
    for number in range(len(sums)):
        batch = sampler(number)
        s, r = np.asarray(batch.graph.senders), np.asarray(batch.graph.receivers)
        np.add.at(sums[number], batch.nodes[r], np.asarray(batch.graph.weights) * x[batch.nodes[s]] * (r != sampler.max_nodes - 1))
    error = np.abs(sums.mean(0) - whole) / (sums.std(0) / len(sums) ** 0.5 + 1e-6)
    assert error.max() < DEVIATIONS + 1  # the largest of 60


def test_a_batch_takes_the_memory_of_a_batch():
    """Of a million nodes, and of a node with half a million edges: as much as of a thousand nodes, and 1 MB at most."""
    peaks = []
    for size in (1_000, 1_000_000):
        senders = np.arange(size // 2)
        graph = Graph.from_edges(senders, np.where(senders % 2, 0, senders // 2), num_nodes=size, layout=False)
        sampler = NeighborSampler(graph, fanouts=(5, 5), batch_size=32, seeds=None, seed=draws.seed(0))
        sampler(3)
        tracemalloc.start()
        batch = sampler(3)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert batch.mask.all()
    hub = NeighborSampler(graph, fanouts=(5, 5), batch_size=1, seeds=[0], seed=draws.seed(0))
    hub(0)
    tracemalloc.start()
    assert len(np.unique(hub(1).nodes)) > 5
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert max(peaks) < 1e6, peaks


@pytest.mark.slow  # test_permutations.py has the order, and the test above the neighbours
def test_seeds_come_in_an_even_order():
    """The batch in which each of six seeds comes, over many epochs, and which seeds come together."""
    sampler = NeighborSampler(_graph(), fanouts=(1,), batch_size=2, seeds=np.arange(10, 16), seed=draws.seed(0))
    places, pairs = np.zeros((6, 3)), np.zeros((6, 6))
    for number in range(1800):
        a, b = sampler(number).nodes[:2] - 10
        places[[a, b], number % 3] += 1
        pairs[min(a, b), max(a, b)] += 1
    for counts in (places.ravel(), pairs[np.triu_indices(6, 1)]):
        assert stats.chisquare(counts).pvalue > CHANCE


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"fanouts": (), "batch_size": 2}, "fanouts"),
        ({"fanouts": (0,), "batch_size": 2}, "fanouts"),
        ({"fanouts": (2,), "batch_size": 2, "seeds": [60]}, r"seeds has shape \(1,\)"),
        ({"fanouts": (2,), "batch_size": 2, "seeds": [1, 1]}, "each node once"),
    ],
)
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        NeighborSampler(_graph(), **arguments)
