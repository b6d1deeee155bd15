"""A graph in parts, on the host: every edge is in the part of its receiver, and what parts send each other is what edges come from."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.scale_graphs import ring
from parity_tests import draws
from parity_tests.graphs.parts import NODES, drawn
from port_jax.graphs import Graph, GraphError, Partition, gather_senders
from port_jax.training import Plan

SHUFFLED = draws.rng(3).permutation(NODES)
NONE = -1


def with_halos(parts: Partition, rows: np.ndarray) -> list[np.ndarray]:
    """Each part's own rows and those that the others send it, by the definition of a round."""
    own = rows.reshape(parts.parts, parts.size, *rows.shape[1:])
    found = []
    for p in range(parts.parts):
        got, first = [own[p]], 0
        for distance, width in parts.rounds:
            source = (p - distance) % parts.parts
            got.append(own[source][parts.send[source, first : first + width]])
            first += width
        found.append(np.concatenate(got))
    return found


@pytest.mark.parametrize("order", [None, SHUFFLED], ids=["in order", "shuffled"])
@pytest.mark.parametrize("count", [1, 2, 5, 8, NODES])
def test_every_edge_finds_its_ends(count: int, order: Any):
    graph = drawn()
    senders, receivers, weights, features = graph.host_arrays()
    parts = graph.partition(count, order)
    assert sorted(parts.places) == sorted(set(parts.places.tolist()))
    assert parts.num_rows == parts.parts * parts.size
    extended = with_halos(parts, parts.rows(np.arange(NODES), padding=NONE))
    seen = []
    for p in range(count):
        here = parts.edges[p] >= 0
        edges = parts.edges[p][here]
        np.testing.assert_array_equal(extended[p][parts.senders[p][here]], senders[edges])
        np.testing.assert_array_equal(p * parts.size + parts.receivers[p][here], parts.places[receivers[edges]])
        assert (np.diff(parts.receivers[p]) >= 0).all()
        assert all((np.diff(edges[receivers[edges] == node]) > 0).all() for node in set(receivers[edges]))
        # What fills up the edges are loops on a row without a node.
        assert (parts.senders[p][~here] == 0).all()
        assert (parts.receivers[p][~here] == 0).all()
        assert here.all() or extended[p][0] == NONE
        np.testing.assert_array_equal(parts.weights[p][here], weights[edges])
        np.testing.assert_array_equal(parts.edge_features[p][here], features[edges])
        assert not parts.weights[p][~here].any()
        seen += edges.tolist()
    assert sorted(seen) == list(range(len(senders)))
    owner = parts.places // parts.size
    outside = owner[senders] != owner[receivers]
    assert parts.wanted == len(set(zip(owner[receivers[outside]].tolist(), senders[outside].tolist(), strict=True)))
    assert parts.places[NODES - 1] == parts.num_rows - 1
    assert np.bincount(owner, minlength=count).max() <= -(-NODES // count)


def test_values_go_there_and_back():
    graph = drawn()
    parts = graph.partition(8, SHUFFLED)
    values = draws.rng(0).standard_normal((NODES, 3))
    rows = parts.rows(values, padding=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(parts.join(rows), values)
    np.testing.assert_array_equal(rows[parts.places], values)
    others = np.delete(rows, parts.places, axis=0)
    assert len(others) == parts.num_rows - NODES > 0
    assert (others == [1.0, 2.0, 3.0]).all()
    assert parts.rows(np.ones(NODES, bool)).sum() == NODES
    edges = parts.edge_rows(np.arange(1, graph.num_edges + 1))
    np.testing.assert_array_equal(edges, parts.edges.reshape(-1) + 1)


def test_a_ring_sends_what_it_needs():
    """Eight neighbours, four on either side: each part needs four rows of each of the two parts beside it, and nothing is padding."""
    parts = ring().partition(8)
    assert (parts.wanted, parts.send.size, parts.size) == (64, 64, 128)
    assert parts.rounds == ((1, 4), (7, 4))
    assert repr(parts) == "Partition(1024 nodes and 8192 edges in 8 parts, which get 64 rows from each other)"
    assert ring().partition(8, draws.rng(0).permutation(1024)).wanted > 3000


def test_metis_is_asked_for_parts(monkeypatch: pytest.MonkeyPatch):
    asked = {}

    def part_graph(count: int, *, xadj: list[int], adjncy: list[int]) -> tuple[int, list[int]]:
        asked.update(count=count, xadj=np.array(xadj), adjncy=np.array(adjncy))
        return 0, [(7 * node // NODES) % 3 for node in range(NODES)]

    monkeypatch.setitem(sys.modules, "pymetis", SimpleNamespace(part_graph=part_graph))
    graph = drawn()
    parts = graph.partition(3, "metis")
    # The neighbours of each node, in both directions, each once and without itself.
    senders, receivers, _, _ = graph.host_arrays()
    assert asked["count"] == 3
    for node in range(NODES):
        beside = {*senders[receivers == node].tolist(), *receivers[senders == node].tolist()} - {node}
        assert asked["adjncy"][asked["xadj"][node] : asked["xadj"][node + 1]].tolist() == sorted(beside)
    together = parts.places // parts.size
    member = (7 * np.arange(NODES) // NODES) % 3
    assert all(len(set(together[member == k].tolist())) == 1 for k in range(3))
    assert len(set(together.tolist())) == 3


def test_metis_has_to_be_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pymetis", None)
    with pytest.raises(GraphError, match="the package pymetis is not installed: pip install pymetis, or pass an order of your own"):
        drawn().partition(2, "metis")


@pytest.mark.parametrize(
    ("count", "order", "says"),
    [
        (0, None, "parts is 0, and the graph has 45 nodes: pass a number from 1 to 45"),
        (46, None, "parts is 46, and the graph has 45 nodes"),
        (2.0, None, "parts is 2.0: pass a whole number"),
        (2, "kernighan", "order is 'kernighan': pass 'metis', the nodes in an order of your own"),
        (2, SHUFFLED[1:], r"order is an array of type int64 and shape \(44,\): pass each of the 45 nodes once"),
        (2, SHUFFLED / 1, "order is an array of type float64"),
        (2, np.where(SHUFFLED == 7, 45, SHUFFLED), r"order\[\d+\] is 45, outside 0 .. 44"),
        (2, np.where(SHUFFLED == 7, 8, SHUFFLED), r"order\[\d+\] is 8, which is also order\[\d+\], and 7 is missing"),
    ],
)
def test_what_does_not_fit_is_named(count: Any, order: Any, says: str):
    with pytest.raises(GraphError, match=says):
        drawn().partition(count, order)


def test_an_edge_out_of_range_is_named_before_the_graph_is_cut():
    with pytest.raises(GraphError, match=r"senders\[1\] is 9, outside 0 .. 7"):
        Graph.from_edges([0, 9], [1, 2], num_nodes=8).partition(2)


def test_values_that_do_not_fit_are_named():
    parts = drawn().partition(4)
    with pytest.raises(GraphError, match=r"values has shape \(44, 2\): pass a row for each of 45 nodes"):
        parts.rows(np.zeros((44, 2)))
    with pytest.raises(GraphError, match=r"values has shape \(3,\): pass a row for each of 200 edges"):
        parts.edge_rows(np.zeros(3))
    with pytest.raises(GraphError, match=r"rows has shape \(45,\): pass the \d+ rows of 4 parts of \d+"):
        parts.join(np.zeros(45))
    with pytest.raises(GraphError, match=r"padding does not fit rows of type float64 and shape \(2,\)"):
        parts.rows(np.zeros((45, 2)), padding=[1.0, 2.0, 3.0])


def test_one_part_on_one_device():
    """A plan for another number of devices is refused, and so is what only a whole graph can do."""
    plan = Plan(jax.make_mesh((1,), ("x",)))
    graph = drawn()
    with pytest.raises(GraphError, match=r"is in 4 parts, and the mesh has 1 devices along 'x': cut the graph by graph.partition\(1\)"):
        Graph.from_partition(graph.partition(4), plan.split)
    with pytest.raises(GraphError, match="the graph is in 4 parts"):
        graph.partition(4).split(np.zeros(NODES), plan.split)
    for wrong in (plan.whole, NamedSharding(plan.mesh, PartitionSpec(None, "x")), None):
        with pytest.raises(GraphError, match=r"sharding is .*: pass one that splits rows along one axis of a mesh"):
            Graph.from_partition(graph.partition(1), wrong)
    parts = graph.partition(1, SHUFFLED)
    there = Graph.from_partition(parts, plan.split)
    values = draws.rng(0).standard_normal((NODES, 2))
    found = jax.jit(gather_senders)(parts.split(values, plan.split), there)
    np.testing.assert_array_equal(found, values[graph.host_arrays()[0]][parts.edges[0]])
    np.testing.assert_array_equal(np.sort(np.asarray(there.weights)), np.sort(np.asarray(graph.weights)))
    assert int(there.loop_mask.sum()) == int(graph.loop_mask.sum())
    assert repr(there) == "Graph(45 nodes, 200 edges in 1 parts, weights [200], edge_features [200, 2])"
    for call in (
        there.host_arrays,
        there.with_self_loops,
        lambda: there.partition(1),
        lambda: there.to_user_order(there.weights),
        lambda: there.to_graph_order(there.weights),
    ):
        with pytest.raises(GraphError, match="the graph is in parts on several devices: change the whole graph before it is cut"):
            call()
