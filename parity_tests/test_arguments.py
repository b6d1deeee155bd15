"""Wrong arguments of public functions: one sentence with the argument's name and what to give, never an error of what lies below."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import networkx
import numpy as np
import optax
import pytest
import scipy.sparse

import weights
from parity_tests import draws
from parity_tests.training.problem import count, counting
from port_jax import arguments, data, graphs, training
from port_jax.graphs import Graph
from port_jax.manifolds import PoincareBall
from port_jax.optim import sparse_riemannian_sgd
from weights.files.tensors import from_array

EDGES, KEY = np.array([[0, 1, 2], [1, 2, 3]]), draws.key(0)
WRONG: dict[str, Any] = {
    "None": None,
    "a number": -1,
    "half": 2.5,
    "text": "x",
    "a list": [1],
    "ragged": [[1], [2, 3]],
    "a dictionary": {"a": 1},
    "an object": object(),
    "an array": np.zeros(2),
    "a key": draws.key(1),
    "an empty list": [],
    "nothing by its name": {"w": None},
    "a null character": "a\0b",
    "a name that is too long": "x" * 300,
}
REMEDIES = re.compile(r"\b(give|pass|choose|make|save|clean|set|keep|monitor|has to|one row each|such pairs|ask for|must|integers|reads)\b")
Table = Mapping[str, tuple[Callable[..., Any], Mapping[str, Any]]]


def table(folder: Path) -> Table:
    """Each public function with arguments that it takes."""
    graph = Graph.from_edges([0, 1], [1, 2], num_nodes=3)
    weights.write(folder / "x.pth", {"w": from_array(np.zeros((4, 2), np.float32))})
    asked = {"arch": "tree", "manifolds": {"w": PoincareBall(0.7)}}
    checkpoint = weights.load(folder / "x.pth", **asked)
    checkpoint.save(folder / "c.npz")
    rest = ("config", "curvature", "section", "prefix", "optimizer_at", "groups", "updates_per_step", "without_state", "about", "progress")
    two, rows = np.ones(2), np.ones((3, 2))
    return {
        "fit": (
            training.fit,
            {"step": count, "state": counting(), "steps": 0, "batch": 0, "chunk": 1, "every": 1, "progress": False}
            | dict.fromkeys(("batches", "evaluate", "monitor", "mode", "patience", "folder")),
        ),
        "restore": (training.restore, {"folder": folder / "nothing", "which": "latest", "like": None}),
        "train_state": (
            training.train_state,
            {"params": {"w": jnp.zeros(2)}, "optimizer": optax.sgd(0.1), "key": KEY, "opt_state": None, "collections": None},
        ),
        "gradient_step": (training.gradient_step, {"loss": lambda *_: 0.0, "optimizer": optax.sgd(0.1)}),
        "sparse_step": (
            training.sparse_step,
            {"loss": lambda *_: 0.0, "optimizer": sparse_riemannian_sgd(0.1, manifolds=PoincareBall(0.7)), "indices": lambda batch: batch}
            | {"plan": None, "capacity": None, "shuffle": 0},
        ),
        "StackedBatches": (training.StackedBatches, {"batches": lambda number: np.zeros(2), "count": 2}),
        "mean_over_batches": (training.mean_over_batches, {"loss": lambda *_: 0.0, "plan": None}),
        "distributed": (training.distributed, {"address": None, "processes": 1, "index": 0}),
        "EdgeSampler": (
            data.EdgeSampler,
            {"edges": EDGES, "num_nodes": 4, "batch_size": 2, "negatives": 1, "replace": "target", "directed": False, "seed": 0},
        ),
        "NeighborSampler": (data.NeighborSampler, {"graph": graph, "fanouts": [2], "batch_size": 2, "seeds": None, "seed": 0}),
        "StereographicTreeDataset": (
            data.StereographicTreeDataset,
            {"key": KEY, "ball": PoincareBall(1.0), "dim": 2, "depth": 1, "numberOfChildren": 1, "dist_children": 1.0}
            | {"sigma_sibling": 2.0, "numberOfsiblings": 1, "dtype": None},
        ),
        "degree_features": (data.degree_features, {"features": rows, "graph": graph, "largest": 5}),
        "row_normalized": (data.row_normalized, {"features": rows}),
        "store_graph": (
            data.store_graph,
            {"paths": folder / "edges.npz", "folder": folder / "graph", "columns": None, "directed": True, "num_nodes": None}
            | {"memory": 1 << 20, "progress": False},
        ),
        "load_graph": (data.load_graph, {"path": None, "task": "nc", "arrays": None}),
        "ranking_batch": (data.ranking_batch, {"key": KEY, "pairs": EDGES.T, "num_nodes": 4, "negatives": 2}),
        "sample_negatives": (data.sample_negatives, {"edges": EDGES, "num_nodes": 5, "count": 2, "seed": 0}),
        "split_edges": (data.split_edges, {"edges": EDGES, "num_nodes": 4, "val_prop": 0.05, "test_prop": 0.1, "seed": 0}),
        "split_nodes": (data.split_nodes, {"labels": np.arange(20) % 2, "val_prop": 0.15, "test_prop": 0.15, "seed": 0}),
        "transitive_closure": (data.transitive_closure, {"edges": EDGES, "num_nodes": 4}),
        "from_edges": (
            Graph.from_edges,
            {"senders": [0, 1], "receivers": [1, 2], "num_nodes": 3, "weights": None, "edge_features": None, "layout": True},
        ),
        "from_edge_index": (Graph.from_edge_index, {"edge_index": EDGES, "num_nodes": 4, "weights": None, "edge_features": None}),
        "from_edge_list": (Graph.from_edge_list, {"pairs": [("a", "b")], "weights": None, "edge_features": None}),
        "from_scipy": (Graph.from_scipy, {"adjacency": scipy.sparse.eye(3).tocsr()}),
        "from_networkx": (Graph.from_networkx, {"graph": networkx.path_graph(3), "weight": None}),
        "to_graph_order": (graph.to_graph_order, {"values": two}),
        "to_user_order": (graph.to_user_order, {"values": two}),
        "with_self_loops": (graph.with_self_loops, {"weight": 1.0}),
        "normalized": (graph.normalized, {"kind": "row", "self_loops": True}),
        "padded": (graph.padded, {"num_nodes": 5, "num_edges": 4}),
        "aggregate": (graphs.aggregate, {"coefficients": two, "values": rows, "graph": graph}),
        "edge_dot": (graphs.edge_dot, {"at_receivers": rows, "at_senders": rows, "graph": graph}),
        "gather_receivers": (graphs.gather_receivers, {"x": rows, "graph": graph}),
        "gather_senders": (graphs.gather_senders, {"x": rows, "graph": graph}),
        "markov_blanket": (graphs.markov_blanket, {"graph": graph, "siblings": False}),
        "segment_max": (graphs.segment_max, {"values": two, "graph": graph, "empty": 0.0}),
        "segment_softmax": (graphs.segment_softmax, {"logits": two, "graph": graph, "self_logits": None, "mask": None}),
        "segment_sum": (graphs.segment_sum, {"values": two, "graph": graph}),
        "load": (weights.load, {"path": folder / "x.pth", "optimizer": True, "port": None, **asked, **dict.fromkeys(rest)}),
        "weights.restore": (weights.restore, {"path": folder / "c.npz", "port": None}),
        "export": (weights.export, {"checkpoint": checkpoint, "path": folder / "b.pth", "overwrite": True, "port": None}),
        "save": (checkpoint.save, {"path": folder / "d.npz", "overwrite": True}),
        "after": (checkpoint.after, {"folder": folder / "nothing", "which": "latest", "optimizer": True}),
        "read": (weights.read, {"path": folder / "x.pth"}),
        "write": (weights.write, {"path": folder / "y.pth", "root": {}, "overwrite": True}),
        "embeddings": (weights.embeddings, {"checkpoint": checkpoint, "key": "w", "graph": None, "names": None, "space": "manifold"}),
    }


def wrong(name: str, function: Callable[..., Any], good: Mapping[str, Any]) -> list[str]:
    """The calls whose error does not say what is wrong."""
    found = []
    for argument in good:
        for what, value in WRONG.items():
            said, right = "", True
            try:
                function(**{**good, argument: value})
            except weights.ConversionError as error:
                said, right = str(error), bool(error.remedy or REMEDIES.search(str(error)))
            except (data.DataError, training.TrainingError) as error:  # of what is in a file or a folder
                said, right = str(error), REMEDIES.search(str(error)) is not None
            except (ValueError, TypeError) as error:
                said = str(error)
                right = re.search(rf"\b{argument}\b", said) is not None and REMEDIES.search(said) is not None
            except Exception as error:
                said, right = f"{type(error).__name__}: {error}", False
            if not right:
                found.append(f"{name}({argument}={what}): {said[:200]}")
    return found


def test_every_wrong_argument_is_named_with_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    rows = table(tmp_path)
    faults = [fault for name, (function, good) in rows.items() for fault in wrong(name, function, good)]
    assert not faults, "\n".join(faults)


def test_every_public_function_is_in_the_table(tmp_path: Path):
    public = {name for module in (training, data, graphs) for name in module.__all__ if not name[0].isupper()}
    assert public <= table(tmp_path).keys()


def test_kinds():
    fits = {
        arguments.whole(1): ([1, np.int64(2), jnp.int32(3), np.array(4)], [0, 1.0, True, np.True_, None, "1", np.array([1]), jnp.ones(())]),
        arguments.number(0, 1): ([0, 1, 0.5, np.float32(0.5), jnp.ones(())], [-0.1, 2, float("nan"), True, "0.5", 1j]),
        arguments.EDGES: ([[[0], [1]], np.zeros((2, 0)), EDGES], [[0, 1], EDGES.T, EDGES + 0.5, "x", None, [[0], [1, 2]]]),
        arguments.KEY: ([KEY, jnp.zeros(2, jnp.uint32)], [0, jnp.zeros(2), jax.random.split(KEY)]),
        arguments.optional(arguments.PATH): ([None, "x", Path("x")], [1, b"x", "a\0b", Path("a\0b")]),
        arguments.one_of("a", "b"): (["a", "b"], ["c", None, 1, ["a"]]),
    }
    for kind, (right, others) in fits.items():
        assert all(map(kind.fits, right)), kind.wanted
        assert not any(map(kind.fits, others)), kind.wanted


def test_how_a_value_is_said():
    class Own:
        pass

    assert arguments.said(np.zeros((2, 3), np.float32)) == "an array of type float32 and shape (2, 3)"
    assert arguments.said("a\nb" * 90)[-6:] == "\\nb..." or len(arguments.said("a\nb" * 90)) <= arguments.LONGEST + 3
    assert "\n" not in arguments.said(["a\nb"])
    assert [arguments.said(Own()).rpartition(".")[2], arguments.said(int)] == ["Own", "the class int"]
