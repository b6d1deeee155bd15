"""The edge sampler: its shapes, its epochs, its negatives and their law."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from parity_tests import draws
from parity_tests.tolerances import CHANCE
from port_jax.data import EdgeSampler
from port_jax.training import fit, gradient_step, train_state

NODES = 9
KINDS = list(itertools.product(("target", "source", "both"), (False, True)))


def _edges(count: int = 14) -> np.ndarray:
    """Different directed pairs, a loop among them; both directions of one pair; nodes with many edges and a node without."""
    pairs = [(u, v) for u in range(NODES - 1) for v in range(NODES - 1) if u != v]
    chosen = draws.rng(0).permutation(pairs)[:count]
    return np.concatenate([chosen, [(2, 2), (0, 1), (1, 0), *((0, v) for v in range(2, 7))]]).T


def _allowed(edges: np.ndarray, replace: str, directed: bool) -> dict[tuple[int, int], set[tuple[int, int]]]:
    """By brute force: the negatives of each edge."""
    known = {(int(u), int(v)) for u, v in edges.T}
    if not directed:
        known |= {(v, u) for u, v in known}
    free = {(u, v) for u in range(NODES) for v in range(NODES) if u != v and (u, v) not in known}
    keep = {"target": lambda e, f: f[0] == e[0], "source": lambda e, f: f[1] == e[1], "both": lambda e, f: True}[replace]
    return {(int(u), int(v)): {f for f in free if keep((u, v), f)} for u, v in edges.T}


@pytest.mark.parametrize(("replace", "directed"), KINDS)
def test_epochs_and_negatives(replace: str, directed: bool):
    edges = _edges()
    sampler = EdgeSampler(edges, NODES, batch_size=5, negatives=40, replace=replace, directed=directed, seed=draws.seed(0))
    allowed, seen, counts = _allowed(edges, replace, directed), [], {e: {} for e in _allowed(edges, replace, directed)}
    for number in range(40 * sampler.steps_per_epoch):
        batch = sampler(number)
        assert batch.edges.shape == (5, 2)
        assert batch.negatives.shape == (5, 40, 2)
        assert {x.dtype for x in batch[:2]} == {np.dtype(np.int32)}
        for edge, negatives in zip(map(tuple, batch.edges.tolist()), batch.negatives.tolist()):
            for pair in map(tuple, negatives):
                counts[edge][pair] = counts[edge].get(pair, 0) + 1
        seen.append(batch.edges[batch.mask])
    for epoch in range(40):
        visited = np.concatenate(seen[epoch * sampler.steps_per_epoch : (epoch + 1) * sampler.steps_per_epoch])
        assert sorted(map(tuple, visited.tolist())) == sorted(map(tuple, edges.T.tolist()))
    for edge, found in counts.items():
        assert found.keys() <= allowed[edge], edge
        if len(allowed[edge]) > 1:  # of one pair there is no law to test
            assert stats.chisquare([found.get(pair, 0) for pair in allowed[edge]]).pvalue > CHANCE, edge
    assert seen[0].tolist() != seen[sampler.steps_per_epoch].tolist()


def test_a_number_gives_the_same_batch_each_time():
    made = [EdgeSampler(_edges(), NODES, batch_size=5, negatives=3, seed=draws.seed(0)) for _ in range(2)]
    made[1](5)
    jax.tree.map(np.testing.assert_array_equal, made[0](3), made[1](3))
    other = EdgeSampler(_edges(), NODES, batch_size=5, negatives=3, seed=draws.seed(0) + 1)(3)
    assert other.negatives.tolist() != made[0](3).negatives.tolist()


def test_a_batch_larger_than_the_edges():
    batch = EdgeSampler(np.array([[0, 1], [1, 2]]), 5, batch_size=7)(0)
    assert batch.mask.tolist() == [True] * 2 + [False] * 5
    assert {tuple(e) for e in batch.edges.tolist()} == {(0, 1), (1, 2)}


def test_it_feeds_fit_with_one_compilation():
    batches = EdgeSampler(_edges(), NODES, batch_size=5, negatives=3)

    def loss(params, batch, key):
        right, wrong = ((params[pairs[..., 0]] * params[pairs[..., 1]]).sum(-1) for pairs in batch[:2])
        each = -jax.nn.log_sigmoid(right) - jax.nn.log_sigmoid(-wrong).mean(1)
        return jnp.sum(jnp.where(batch.mask, each, 0)) / batch.mask.sum()

    optimizer = optax.sgd(0.1)
    state = train_state(jnp.asarray(draws.rng(1).standard_normal((NODES, 2))), optimizer, draws.key(0))
    result = fit(gradient_step(loss, optimizer), state, steps=2 * batches.steps_per_epoch, batches=batches, chunk=3)
    assert result.compilations <= 2  # the chunks, and what is left of the last
    assert np.isfinite(result.history.steps["loss"]).all()


@pytest.mark.parametrize(
    ("edges", "options", "says"),
    [
        (np.zeros((3, 2), int), {}, r"shape \(3, 2\); give whole numbers \[2, E\]"),
        (np.zeros((2, 0), int), {}, "with an edge or more"),
        (np.array([[0.0], [1.0]]), {}, "type float64 .*; give whole numbers"),
        (np.array([[0], [5]]), {}, r"from 0 to 5: pass indices in \[0, 5\)"),
        (np.array([[-1], [1]]), {}, "from -1 to 1"),
        (np.array([[0], [1]]), {"batch_size": 0}, "batch_size is 0; give a whole number of at least 1"),
        (np.array([[0], [1]]), {"replace": "head"}, "replace is 'head'; give 'target' or 'source' or 'both'"),
        (np.array([[2, 2, 2, 2], [0, 1, 3, 4]]), {}, "node 2 has an edge to every other node"),
        (np.array(list(itertools.combinations(range(5), 2))).T, {"replace": "both"}, "every pair of the 5 nodes has an edge"),
    ],
)
def test_bad_input(edges, options, says):
    with pytest.raises(ValueError, match=says):
        EdgeSampler(edges, 5, **{"batch_size": 2, **options})
