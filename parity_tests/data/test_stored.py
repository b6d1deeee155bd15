"""Graphs on disk: the same edges as in memory, from every format, in bounded memory, and nothing half written."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from parity_tests import draws
from port_jax.data import DataError, NeighborSampler, StoredGraph, edge_files, store_graph, stored
from port_jax.graphs import Graph

NODES = 70
HUB = 13


def _edges(weights: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Loops, repeated edges, nodes without any, and one node into which a third of all edges run."""
    rng = draws.rng(0)
    senders, receivers = rng.integers(0, NODES, (2, 900))
    receivers[rng.permutation(900)[:300]] = HUB
    senders[:5], receivers[:5] = NODES - 1, NODES - 3  # the last two nodes receive nothing
    receivers[receivers >= NODES - 2] = 0
    return senders, receivers, rng.uniform(0.5, 2, 900).astype(np.float32) if weights else None


def _expected(senders: np.ndarray, receivers: np.ndarray, weights: np.ndarray | None, **more: Any) -> Graph:
    return Graph.from_edges(senders, receivers, num_nodes=NODES, weights=weights, **more)


def _assert_same(found: StoredGraph, graph: Graph) -> None:
    assert found.num_nodes == graph.num_nodes
    np.testing.assert_array_equal(found.senders, graph.senders)
    np.testing.assert_array_equal(np.repeat(np.arange(found.num_nodes), np.diff(found.starts)), graph.receivers)
    if graph.weights is None:
        assert found.weights is None
    else:
        np.testing.assert_array_equal(np.asarray(found.weights), graph.weights)


def _table(path: Path, s: Any, r: Any, w: Any, delimiter: str, head: str = "") -> None:
    rows = "".join(delimiter.join(map(str, row)) + "\n" for row in (zip(s, r, w, strict=True) if w is not None else zip(s, r, strict=True)))
    pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
    path.write_bytes(pack((head + rows).encode()))


def _parquet(path: Path, s: Any, r: Any, w: Any) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"paper": s.astype(np.uint32), "cites": r} | ({} if w is None else {"strength": w})
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(arrow.table(columns), path, row_group_size=100)


WRITERS: dict[str, tuple[bool, Callable[[Path, Any, Any, Any], Any], str, Any]] = {
    "npz": (True, lambda p, s, r, w: np.savez(p, senders=s, receivers=r, weights=w), "a.npz", None),
    "compressed npz": (True, lambda p, s, r, w: np.savez_compressed(p, a=s.astype(np.int16), b=r, c=w), "a.npz", ("a", "b", "c")),
    "npz of an adjacency": (True, lambda p, s, r, w: np.savez(p, adj_row=r, adj_col=s, adj_val=w), "a.npz", None),
    "npz of edges": (False, lambda p, s, r, w: np.savez(p, edges=np.stack([s, r])), "a.npz", None),
    "csv": (True, lambda p, s, r, w: _table(p, s, r, w, ",", "from,to,w\n"), "a.csv", ("from", "to", "w")),
    "csv in another order": (True, lambda p, s, r, w: _table(p, w, r, s, ",", "w,to,from\n"), "a.csv", ("from", "to", "w")),
    "csv with quotes": (False, lambda p, s, r, w: _table(p, s, r, w, ",", '\ufeff"from","to"\n'), "a.csv", ("from", "to")),
    "csv without names": (False, lambda p, s, r, w: _table(p, s, r, w, ","), "a.csv", None),
    "tsv": (False, lambda p, s, r, w: _table(p, s, r, w, "\t", "from\tto\n"), "a.tsv", None),
    "compressed text with comments": (False, lambda p, s, r, w: _table(p, s, r, w, "\t", "# a\n# From\tTo\n"), "a.txt.gz", None),
    "text with blanks": (False, lambda p, s, r, w: _table(p, s, r, w, " "), "a.txt.bz2", None),
    "parquet": (False, lambda p, s, r, w: _parquet(p, s, r, w), "a.parquet", None),
    "folder of parquet": (True, lambda p, s, r, w: _parquet(p / "x=1.parquet", s, r, w), "parts", ("paper", "cites", "strength")),
}


@pytest.mark.parametrize("how", WRITERS)
def test_the_same_edges_as_in_memory(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weighted, write, name, columns = WRITERS[how]
    if not name.endswith(".npz"):
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(edge_files, "BLOCK", 64)
    s, r, w = _edges(weighted)
    write(tmp_path / name, s, r, w)
    # 8,000 bytes are for 166 edges: some nodes share a part, and the edges of the hub do not fit
    found = store_graph(tmp_path / name, tmp_path / "graph", columns=columns, num_nodes=NODES, memory=8000, progress=False)
    _assert_same(found, _expected(s, r, w))
    names = ["graph.json", "senders.npy", "starts.npy", *["weights.npy"] * weighted]
    assert sorted(path.name for path in (tmp_path / "graph").iterdir()) == names
    _assert_same(StoredGraph.open(tmp_path / "graph"), found.whole())


def test_several_files_and_both_directions(tmp_path: Path):
    s, r, w = _edges()
    for i, part in enumerate((slice(0, 400), slice(400, 900))):
        np.savez(tmp_path / f"{i}.npz", senders=s[part], receivers=r[part], weights=w[part])
    paths = [tmp_path / "0.npz", tmp_path / "1.npz"]
    found = store_graph(paths, tmp_path / "graph", directed=False, progress=False)
    ends, kept = np.stack([s, r]), np.stack([np.ones(900, bool), s != r], 1).reshape(-1)
    both = np.stack([ends, ends[::-1]], -1).reshape(2, -1)[:, kept]
    _assert_same(found, Graph.from_edges(*both, num_nodes=NODES, weights=np.repeat(w, 2)[kept]))
    assert json.loads((tmp_path / "graph" / "graph.json").read_text())["files"] == ["0.npz", "1.npz"]


@pytest.mark.parametrize("weighted", [True, False])
def test_batches_are_those_of_the_graph_in_memory(weighted: bool, tmp_path: Path):
    s, r, w = _edges(weighted)
    np.savez(tmp_path / "a.npz", senders=s, receivers=r, **({} if w is None else {"weights": w}))
    given = {"fanouts": (4, 3), "batch_size": 8, "seed": draws.seed(1)}
    stored_one = NeighborSampler(store_graph(tmp_path / "a.npz", tmp_path / "graph", progress=False), **given)
    one = NeighborSampler(_expected(s, r, w), **given)
    assert stored_one.steps_per_epoch == one.steps_per_epoch == 9
    for number in (0, 8, 13):
        for x, y in zip(jax.tree.leaves(stored_one(number)), jax.tree.leaves(one(number)), strict=True):
            np.testing.assert_array_equal(x, y)


def _npz(**arrays: Any) -> Callable[[Path], Any]:
    return lambda path: np.savez(path, **arrays)


def _with(text: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("name", "write", "more", "message"),
    [
        ("a.npz", _npz(senders=[0, 1], receivers=[1, -1]), {}, r"a.npz: receivers\[1\] is -1; number the nodes from 0"),
        ("a.npz", _npz(senders=[0, 2**40], receivers=[1, 1]), {}, r"senders\[1\] is 1099511627776; .* at most 2147483647"),
        ("a.npz", _npz(senders=[0.0, 1.0], receivers=[1, 1]), {}, r"senders are float64; give the numbers of nodes"),
        ("a.npz", _npz(senders=[0, 1], receivers=[1]), {}, r"senders, receivers have the lengths 2, 1"),
        ("a.npz", _npz(edges=np.zeros((5, 2), int)), {}, r"edges has shape \(5, 2\); save \[2, E\]"),
        ("a.npz", _npz(x=[0, 1]), {}, r"a.npz has no column 'senders'; it has 'x'"),
        ("a.npz", _npz(senders=[0, 1], receivers=[1, 1], weights=[1, np.nan]), {}, r"the weight of edge 1 is nan"),
        ("a.npz", _npz(senders=[0, 9], receivers=[1, 1]), {"num_nodes": 5}, r"a.npz names node 9, and num_nodes is 5; .* at least 10"),
        ("a.npz", _npz(edges=np.zeros((2, 0), int)), {}, r"has no edges; give num_nodes"),
        ("a.npz", _npz(senders=[0] * 40000, receivers=range(40000)), {"memory": 100}, r"memory is 100, which is too .* at least \d+"),
        ("a.npz", _with("no zip"), {}, r"a.npz cannot be read"),
        ("a.mtx", _with("1 2"), {}, r"a.mtx ends with .mtx; give a .parquet"),
        ("a.csv", _with("0,1\n1,x\n"), {}, r"a.csv cannot be read .*'x'"),
        ("a.csv", _with("s,r\n0,1\n1\n"), {}, r"a.csv cannot be read"),
        ("a.csv", _with("s,r\n0,1\n,1\n"), {}, r"column 's' has empty cells"),
        ("a.csv", _with("s,r\n0,1\n"), {"columns": ("s", "t")}, r"a.csv has no column 't'; it has 's', 'r'"),
        ("a.csv", _with("s\n0\n"), {}, r"1 columns are named"),
        ("a.csv", _with("# a\n" * 20000 + "0,1\n"), {}, r"a.csv begins with 65536 bytes of comments"),
        ("a.parquet", _with("no parquet"), {}, r"a.parquet cannot be read"),
        ("missing.csv", lambda path: None, {}, r"missing.csv does not exist"),
    ],
)
def test_what_is_no_edge_list_is_refused(name: str, write: Any, more: dict[str, Any], message: str, tmp_path: Path):
    if not name.endswith(".npz"):
        pytest.importorskip("pyarrow")
    write(tmp_path / name)
    with pytest.raises(DataError, match=message):
        store_graph(tmp_path / name, tmp_path / "graph", progress=False, **more)
    assert {path.name for path in tmp_path.iterdir()} <= {name}


def test_files_of_two_kinds_are_refused(tmp_path: Path):
    np.savez(tmp_path / "a.npz", senders=[0], receivers=[1], weights=[1.0])
    np.savez(tmp_path / "b.npz", senders=[0], receivers=[1])
    with pytest.raises(DataError, match=r"b.npz has no weights, unlike the files before"):
        store_graph([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "graph", progress=False)


def test_nothing_is_written_over_and_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.savez(tmp_path / "a.npz", senders=[0, 1], receivers=[1, 1])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"mine exists and is not empty; give another folder"):
        store_graph(tmp_path / "a.npz", tmp_path / "mine", progress=False)
    store_graph(tmp_path / "a.npz", tmp_path / "graph", progress=False)
    with pytest.raises(DataError, match=r"graph exists and is not empty"):
        store_graph(tmp_path / "a.npz", tmp_path / "graph", progress=False)

    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stored, "_sort", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store_graph(tmp_path / "a.npz", tmp_path / "new", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "graph", "mine"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "graph.json").unlink(), r"graph.json cannot be read .*; give a folder that store_graph has written"),
        (lambda folder: (folder / "graph.json").write_text('{"version": 9}'), r"has version 9, and this program reads 1"),
        (lambda folder: (folder / "senders.npy").unlink(), r"senders.npy cannot be read"),
        (lambda folder: np.save(folder / "senders.npy", np.zeros(3, np.int32)), r"senders.npy has shape \(3,\), and graph.json says 2"),
    ],
)
def test_a_spoiled_folder_is_named(spoil: Any, message: str, tmp_path: Path):
    np.savez(tmp_path / "a.npz", senders=[0, 1], receivers=[1, 1])
    store_graph(tmp_path / "a.npz", tmp_path / "graph", progress=False)
    spoil(tmp_path / "graph")
    with pytest.raises(DataError, match=message):
        StoredGraph.open(tmp_path / "graph")


PROGRAM = """
import resource, sys
import numpy as np
from port_jax.data import NeighborSampler, StoredGraph, store_graph
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
found = store_graph(sys.argv[1], sys.argv[2], memory=64 << 20, progress=False)
print(peak() - before, len(found.senders))
"""


@pytest.mark.slow  # the parts are compared above
def test_memory_is_bounded(tmp_path: Path):
    count = 20_000_000
    senders, receivers = draws.rng(0).integers(0, 1_000_000, (2, count)).astype(np.int32)
    np.savez(tmp_path / "a.npz", senders=senders, receivers=receivers)
    del senders, receivers
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "a.npz"), str(tmp_path / "graph")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    more, edges = map(int, ran.stdout.split())
    blocks = 8 * edge_files.BLOCK * 2 * 8  # int64 copies of the senders and receivers of a block
    assert edges == count
    assert more < (64 << 20) + 32 * 1_000_000 + blocks, f"{more / 2**20:.0f} MiB; the edges have {8 * count / 2**20:.0f}"
