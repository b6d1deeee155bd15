"""The shipped graph, `.npz` graphs and their preparation."""

from pathlib import Path

import numpy as np
import pytest

from port_jax.data import DataError, degree_features, load_graph, row_normalized
from port_jax.graphs import Graph

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason=f"{SHARED} is not here")


def test_the_shipped_graph_is_the_class_hierarchy():
    data = load_graph()
    assert data.names is not None
    assert data.labels is not None
    assert data.label_names is not None
    assert 2000 < data.num_nodes == len(data.names) == len(set(data.names))
    edges = {(data.names[a], data.names[b]) for a, b in data.edges.T}
    derives = [("builtins.OSError", "builtins.Exception"), ("builtins.bool", "builtins.int"), ("ast.Name", "ast.expr")]
    assert all(pair in edges for pair in derives)
    assert ("builtins.Exception", "builtins.OSError") not in edges
    label = dict(zip(data.names, (data.label_names[i] for i in data.labels)))
    assert (label["asyncio.tasks.Task"], label["xml.sax.handler.ContentHandler"]) in {("system", "formats")}
    assert np.bincount(data.labels).min() > 0.05 * data.num_nodes
    assert data.graph.num_edges == 2 * data.edges.shape[1]
    assert data.features.dtype == np.float32


@needs_shared
def test_the_graphs_of_the_field():
    airport, cora, disease = (load_graph(SHARED / f"{name}.npz") for name in ("airport", "cora", "disease_lp"))
    assert (airport.num_nodes, airport.graph.num_edges, airport.features.shape) == (3188, 2 * 18630 + 1, (3188, 4))
    assert load_graph(SHARED / "airport.npz", task="lp").features.shape == (3188, 5)
    assert cora.features.sum() == 49216
    assert cora.idx_train is not None
    assert len(cora.idx_train) == 140
    assert (disease.num_classes, disease.edges.shape) == (2, (2, 2664))


@needs_shared
def test_preparation_equals_the_authors():
    """Normalised adjacency, row normalisation and degree features against the files that HGCN's own code prepared."""
    raw, prepared = load_graph(SHARED / "airport.npz"), load_graph(SHARED / "prepared" / "airport_nc.npz")
    made = raw.graph.normalized()
    order, theirs = (np.lexsort((g.senders, g.receivers)) for g in (made, prepared.graph))
    for name in ("senders", "receivers", "weights"):
        assert np.array_equal(getattr(made, name)[order], getattr(prepared.graph, name)[theirs])
    made = degree_features(row_normalized(raw.features), raw.graph)
    # A row whose features almost cancel has a sum that float32 knows only to this relative accuracy.
    accuracy = 2**-22 * np.abs(raw.features).sum(1) / np.abs(raw.features.sum(1))
    assert (np.abs(made - prepared.features) <= accuracy[:, None] * np.abs(prepared.features)).all()
    cora, prepared = load_graph(SHARED / "cora.npz"), load_graph(SHARED / "prepared" / "cora_nc.npz")
    assert np.array_equal(row_normalized(cora.features), prepared.features)
    links = load_graph(SHARED / "prepared" / "disease_lp.npz")
    assert links.val_edges is not None
    assert links.val_edges.shape == (133, 2)


def test_row_normalisation_of_an_empty_row():
    assert np.array_equal(row_normalized(np.array([[1, 3], [0, 0]], np.float32)), [[0.25, 0.75], [0, 0]])


def test_degrees_count_incoming_edges():
    g = Graph.from_edges([0, 1, 2, 0], [1, 0, 1, 1], num_nodes=3)
    expected = [[9, 0, 1, 0, 1], [9, 0, 0, 1, 1], [9, 1, 0, 0, 1]]
    assert np.array_equal(degree_features(np.full((3, 1), 9, np.float32), g, largest=2), expected)


GOOD = {
    "edges": np.array([[0, 1], [1, 2]], np.int32),
    "features": np.eye(3, dtype=np.float32),
    "labels": np.array([0, 1, 1]),
}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"edges": None}, "edges is missing .the file contains features, labels."),
        ({"edges": np.array([[0, 3], [1, 2]])}, r"edges: senders\[1\] is 3"),
        ({"edges": np.zeros((2, 2))}, "edges: senders has dtype float64"),
        ({"edges": np.zeros((3, 3), int)}, r"edges: edge_index has shape \(3, 3\)"),
        ({"features": None}, "features_indices is missing"),
        ({"features": np.full((3, 1), np.nan)}, "features is nan at node 0, column 0"),
        ({"features": np.zeros(3)}, r"features has shape \(3,\)"),
        ({"labels": np.array([0, 1])}, r"labels has shape \(2,\).*\[3\]"),
        ({"labels": np.array([0.0, 1, 1])}, "labels has dtype float64"),
        ({"labels": np.array([-1, 1, 1])}, "number the classes from 0"),
        ({"idx_train": np.array([0, 7])}, "idx_train contains the node 7"),
        ({"names": np.array(["a"])}, "names has shape"),
    ],
)
def test_errors_name_the_file_and_the_key(tmp_path: Path, changed, named: str):
    path = tmp_path / "bad.npz"
    np.savez(path, **{k: v for k, v in (GOOD | changed).items() if v is not None})
    with pytest.raises(DataError, match=named) as caught:
        load_graph(path)
    assert str(path) in str(caught.value)


def test_errors_of_the_file_itself(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        load_graph(tmp_path / "none.npz")
    with pytest.raises(DataError, match="is a folder"):
        load_graph(tmp_path)
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(DataError, match="cannot be read"):
        load_graph(tmp_path / "text.npz")
    np.savez(tmp_path / "cut.npz", **GOOD)
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        load_graph(tmp_path / "cut.npz")
    np.save(tmp_path / "one.npy", np.eye(2))
    with pytest.raises(DataError, match="single array"):
        load_graph(tmp_path / "one.npy")
    with pytest.raises(ValueError, match="task is 'nodes'"):
        load_graph(task="nodes")  # pyright: ignore[reportArgumentType]
