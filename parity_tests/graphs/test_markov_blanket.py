"""Markov blankets against networkx, node by node."""

import networkx as nx
import numpy as np
import pytest

from parity_tests import draws
from port_jax.graphs import Graph, markov_blanket


def blanket(graph: nx.DiGraph, node: int, siblings: bool) -> set[int]:
    parents, children = set(graph.predecessors(node)), set(graph.successors(node))
    found = parents | children | {p for child in children for p in graph.predecessors(child)}
    if siblings:
        found |= {child for parent in parents for child in graph.successors(parent)}
    return found - {node}


@pytest.mark.parametrize("siblings", [False, True])
def test_of_a_directed_graph(siblings: bool):
    graph = nx.gnp_random_graph(40, 0.06, seed=draws.seed(4), directed=True)
    graph.add_edge(3, 3)
    g = Graph.from_networkx(graph)
    repeated = Graph.from_edges(np.tile(g.senders, 2), np.tile(g.receivers, 2), num_nodes=40)
    result = markov_blanket(repeated, siblings=siblings)
    senders, receivers = np.asarray(result.senders), np.asarray(result.receivers)
    without_loop = graph.copy()
    without_loop.remove_edge(3, 3)
    for node in graph:
        mine = senders[receivers == node]
        assert mine.tolist() == sorted(blanket(without_loop, node, siblings)), node


def test_of_an_undirected_graph_is_the_neighbours():
    graph = nx.karate_club_graph()
    result = markov_blanket(Graph.from_networkx(graph))
    for node in graph:
        assert set(np.asarray(result.senders)[np.asarray(result.receivers) == node]) == set(graph[node])


def test_many_shared_children_count_once():
    """Two parents of 300 children are in each other's blanket once: no count overflows."""
    children = np.arange(2, 302)
    g = Graph.from_edges(np.repeat([0, 1], 300), np.tile(children, 2), num_nodes=302)
    result = markov_blanket(g)
    assert np.asarray(result.senders)[np.asarray(result.receivers) == 0].tolist() == list(range(1, 302))
