"""Graph: its order, its constructors, the graphs made from it, and the errors that JAX would swallow."""

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp

from parity_tests import draws
from parity_tests.graphs import witness
from port_jax.graphs import Graph, GraphError, segment_sum


def dense(g: Graph) -> np.ndarray:
    """A[i, j] = what i receives from j, weights of repeated edges added."""
    a = np.zeros((g.num_nodes, g.num_nodes))
    np.add.at(a, (np.asarray(g.receivers), np.asarray(g.senders)), 1 if g.weights is None else np.asarray(g.weights))
    return a


def test_edges_are_sorted_by_receiver_and_keep_the_order_of_the_user():
    senders, receivers = witness.edges()
    weights = draws.rng(0).random(len(senders))
    g = Graph.from_edges(senders, receivers, num_nodes=witness.NODES, weights=weights, edge_features=weights[:, None] * 2)
    order = np.asarray(g.order)
    assert np.array_equal(order, np.argsort(receivers, kind="stable"))
    assert np.array_equal(g.senders, senders[order])
    assert np.array_equal(g.receivers, receivers[order])
    assert np.array_equal(g.weights, weights[order])
    assert np.array_equal(g.edge_features[:, 0], 2 * weights[order])
    assert np.array_equal(g.to_graph_order(weights), g.weights)
    assert np.array_equal(g.to_user_order(g.weights), weights)
    assert np.array_equal(g.outgoing.segments, np.sort(senders))
    assert np.array_equal(g.receivers[g.outgoing.edges], g.outgoing.columns)
    assert (g.num_nodes, g.num_edges, int(g.loop_mask.sum())) == (60, 633, int((senders == receivers).sum()))


def test_any_order_of_the_edges_gives_the_same_sums():
    senders, receivers = witness.edges()
    values = draws.rng(0).standard_normal((len(senders), 2))
    shuffle = draws.rng(1).permutation(len(senders))
    sums = []
    for at in (np.arange(len(senders)), shuffle):
        g = Graph.from_edges(senders[at], receivers[at], num_nodes=witness.NODES)
        sums.append(segment_sum(g.to_graph_order(values[at]), g))
    assert np.abs(sums[0] - sums[1]).max() < 1e-13


def test_constructors_agree():
    rng = draws.rng(0)
    a = sp.random_array((9, 9), density=0.3, rng=rng).tocoo()
    rows, columns = a.coords
    expected = a.toarray()
    assert np.allclose(dense(Graph.from_scipy(a.tocsr())), expected, rtol=1e-15)
    assert np.allclose(dense(Graph.from_edges(columns, rows, num_nodes=9, weights=a.data)), expected, rtol=1e-15)
    index = np.stack([columns, rows])
    assert np.allclose(dense(Graph.from_edge_index(index, num_nodes=9, weights=a.data)), expected, rtol=1e-15)
    x = rng.standard_normal(9)
    g = Graph.from_scipy(a)
    assert np.allclose(segment_sum(g.weights * x[g.senders], g), a @ x, rtol=1e-14)  # row receives from column

    directed = nx.gnp_random_graph(9, 0.3, seed=draws.seed(1), directed=True)
    nx.set_edge_attributes(directed, {e: i + 1.0 for i, e in enumerate(directed.edges)}, "w")
    from_nx = nx.to_numpy_array(directed, weight="w").T
    assert np.array_equal(dense(Graph.from_networkx(directed, weight="w")), from_nx)
    undirected = nx.karate_club_graph()
    undirected.add_edge(3, 3)
    assert np.array_equal(dense(Graph.from_networkx(undirected)), nx.to_numpy_array(undirected, weight=None))


def test_graphs_made_from_a_graph():
    g = Graph.from_edges([0, 1, 2, 2, 0, 0], [1, 0, 2, 2, 3, 3], num_nodes=5, weights=[1.0, 2, 3, 4, 5, 6], edge_features=np.eye(6))
    bare = g.without_self_loops()
    assert np.array_equal(dense(bare), dense(g) * (1 - np.eye(5)))
    looped = g.with_self_loops(0.5)
    assert np.array_equal(dense(looped), dense(bare) + 0.5 * np.eye(5))
    assert np.array_equal(looped.edge_features.sum(1), (~looped.loop_mask).astype(float))
    both = g.undirected()
    pairs = sorted(zip(both.senders.tolist(), both.receivers.tolist(), both.weights.tolist()))
    assert pairs == [(0, 1, 1), (0, 3, 5), (1, 0, 2), (2, 2, 3), (3, 0, 5)]
    assert np.array_equal(g.with_weights(2 * g.weights).weights, 2 * g.weights)

    a = dense(g)
    with_loops = a + np.eye(5)
    assert np.allclose(dense(g.normalized()), with_loops / with_loops.sum(1, keepdims=True), rtol=1e-15)
    degree = 1 / np.sqrt(with_loops.sum(1))
    assert np.allclose(dense(g.normalized("symmetric")), degree[:, None] * with_loops * degree, rtol=1e-15)
    rows = a.sum(1, keepdims=True)
    alone = np.divide(a, rows, out=np.zeros_like(a), where=rows != 0)
    assert np.allclose(dense(g.normalized(self_loops=False)), alone, rtol=1e-15)


def test_padding_reaches_no_real_node():
    g = Graph.from_edges([0, 1], [1, 0], num_nodes=2, weights=[3.0, 4.0])
    padded = g.padded(num_nodes=4, num_edges=6)
    assert np.array_equal(dense(padded), np.pad(dense(g), (0, 2)))
    sums = segment_sum(jnp.ones(6), padded)
    assert np.array_equal(sums, [1, 1, 0, 4])
    assert jax.tree.structure(padded) == jax.tree.structure(g.undirected().padded(num_nodes=4, num_edges=6))
    with pytest.raises(GraphError, match=r"num_edges=3.*need an added node"):
        g.padded(num_nodes=2, num_edges=3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"senders": [0, 5]}, r"senders\[1\] is 5, outside 0 .. 2 for num_nodes=3 .*num_nodes=6"),
        ({"receivers": [-1, 1]}, r"receivers\[0\] is -1.*number the nodes from 0"),
        ({"senders": [0.0, 1.0]}, r"senders has dtype float64 \(edge 0 is .*astype"),
        ({"senders": [True, False]}, "senders has dtype bool"),
        ({"senders": [0, 1, 2]}, "same length"),
        ({"senders": [[0, 1]], "receivers": [[0, 1]]}, r"shape \(1, 2\): pass one index per edge"),
        ({"weights": [1.0, np.nan]}, r"weights\[1\] is .*nan.*finite"),
        ({"weights": [1.0]}, r"weights has shape \(1,\) for 2 edges"),
        ({"weights": ["a", "b"]}, "weights has dtype"),
        ({"edge_features": [[1.0], [np.inf]]}, r"edge_features\[1\]"),
        ({"num_nodes": -1}, "num_nodes is -1"),
        ({"num_nodes": 2.0}, "num_nodes is 2.0"),
        ({"num_nodes": 2**40}, r"int32.*np\.unique\(edge_index, return_inverse=True\).*from_edge_list"),
        (
            {"senders": [0, 2**40]},
            r"senders\[1\] is 1099511627776.*: if the ids are names.*np\.unique\(.*from_edge_list.*at most 2147483647",
        ),
        ({"senders": [100, 205]}, r"pass num_nodes=206 or more.*np\.unique\(edge_index, return_inverse=True\).*from_edge_list"),
    ],
)
def test_errors_name_the_edge(arguments, named: str):
    call = {"senders": [0, 1], "receivers": [1, 2], "num_nodes": 3} | arguments
    with pytest.raises(GraphError, match=named):
        Graph.from_edges(call.pop("senders"), call.pop("receivers"), **call)


def test_the_remedy_for_ids_with_gaps_works():
    """What the messages advise, word for word, and `from_edge_list` beside it."""
    edge_index = np.array([[100, 205, 2**40], [205, 100, 100]])
    names, index = np.unique(edge_index, return_inverse=True)
    by_hand = Graph.from_edge_index(index.reshape(2, -1), num_nodes=len(names))
    graph = Graph.from_edge_list(edge_index.T)
    assert np.array_equal(graph.names, names)
    assert np.array_equal(dense(graph), dense(by_hand))
    assert np.array_equal(graph.names[np.asarray(graph.senders)], edge_index[0][np.asarray(graph.order)])


def test_names_are_kept():
    pairs, weights = [("b", "a"), ("c", "a"), ("a", "a"), ("b", "a")], [1.0, 2.0, 3.0, 4.0]
    graph = Graph.from_edge_list(pairs, weights=weights, edge_features=np.eye(4))
    assert graph.names.tolist() == ["a", "b", "c"]
    assert dense(graph).tolist() == [[3, 5, 2], [0, 0, 0], [0, 0, 0]]
    made = (graph.undirected(), graph.with_self_loops(), graph.without_self_loops(), graph.normalized(), graph.with_weights(None))
    for other in (*made, graph.padded(num_nodes=5, num_edges=9)):
        assert other.names.tolist() == ["a", "b", "c"]
    # names are no part of a compiled program
    assert jax.jit(lambda g: g)(graph).names is None
    assert jax.tree.structure(graph) == jax.tree.structure(
        Graph.from_edge_list([(7, 5), (9, 5), (5, 5), (7, 5)], weights=weights, edge_features=np.eye(4))
    )
    assert Graph.from_edge_list([]).num_nodes == 0
    assert Graph.from_edges([0], [0], num_nodes=1).names is None
    for bad, says in {
        "shape": (np.zeros((2, 5), int), "pass shape .E, 2. .transpose it"),
        "triples": (np.zeros((5, 3), int), "one row .sender, receiver. for each edge"),
        "kinds": ([("a", 1)], "names of the types int, str"),
        "objects": (np.array([("a", 1)], object), "names of the types int, str"),
        "floats": (np.array([[1.0, np.nan]]), "dtype float64: names are integers or strings"),
    }.values():
        with pytest.raises(GraphError, match=says):
            Graph.from_edge_list(bad)


def test_errors_of_the_other_constructors():
    with pytest.raises(GraphError, match="transpose it"):
        Graph.from_edge_index(np.zeros((5, 2), int), num_nodes=3)
    with pytest.raises(GraphError, match="square"):
        Graph.from_scipy(sp.eye_array(3, 4))
    with pytest.raises(GraphError, match="pass a scipy"):
        Graph.from_scipy(np.eye(3))
    with pytest.raises(GraphError, match=r"edge \(0, 1\) has no attribute 'w'"):
        Graph.from_networkx(nx.path_graph(2), weight="w")
    with pytest.raises(GraphError, match="kind is 'column'"):
        Graph.from_edges([0], [0], num_nodes=1).normalized("column")
    with pytest.raises(GraphError, match="outside of jit"):
        jax.jit(lambda g: g.undirected().senders)(Graph.from_edges([0], [0], num_nodes=1))


def test_it_is_shown_in_a_line():
    graph = Graph.from_edges([0, 1, 2], [1, 2, 0], num_nodes=5, weights=np.ones(3, np.float32))
    assert repr(graph) == "Graph(5 nodes, 3 edges, weights [3])"
    assert repr(Graph.from_edge_list([["a", "b"]])) == "Graph(2 nodes, 1 edges, names [2])"
    assert "None" not in repr(jax.jit(lambda g: g)(graph))
    assert repr(jax.tree.map(lambda x: None, graph)).startswith("Graph(5 nodes")  # as messages of trees show it
