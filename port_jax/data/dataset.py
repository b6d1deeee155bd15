"""`load_graph`: the graph that is included, or an `.npz` file in the same format."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32, Int32

from port_jax.arguments import MAPPING, PATH, one_of, optional, takes
from port_jax.graphs import Graph, GraphError

__all__ = ["SHIPPED", "DataError", "GraphData", "load_graph"]

SHIPPED = Path(__file__).with_name("stdlib.npz")


class DataError(ValueError):
    """A graph file that cannot be used; the message names the file and the key."""


@dataclasses.dataclass(frozen=True)
class GraphData:
    """One graph on the host, as numpy arrays. A field that the file does not have is None."""

    name: str
    edges: Int32[np.ndarray, "2 E"]
    """Each edge once, without self loops. In the included graph, class edges[0, e] derives from class edges[1, e]."""
    graph: Graph
    """Both directions of each edge without weights, or the normalised adjacency if the file contains one."""
    features: Float32[np.ndarray, "N F"]
    labels: Int32[np.ndarray, " N"] | None = None
    names: tuple[str, ...] | None = None
    label_names: tuple[str, ...] | None = None
    idx_train: Int32[np.ndarray, " T"] | None = None
    idx_val: Int32[np.ndarray, " V"] | None = None
    idx_test: Int32[np.ndarray, " U"] | None = None
    val_edges: Int32[np.ndarray, "P 2"] | None = None
    val_edges_false: Int32[np.ndarray, "Q 2"] | None = None
    node_features: Float32[np.ndarray, "N f"] | None = None
    """Further features of each node, which only attention sees."""
    edge_features: Float32[np.ndarray, "E e"] | None = None
    """Features of each column of `edges`, the same in both directions."""

    @property
    def num_nodes(self) -> int:
        """The number of nodes N."""
        return self.features.shape[0]

    @property
    def num_classes(self) -> int:
        """The largest label plus 1, or 0 without labels."""
        return 0 if self.labels is None else int(self.labels.max()) + 1


@takes(path=optional(PATH), task=one_of("nc", "lp"), arrays=optional(MAPPING))
def load_graph(
    path: str | os.PathLike[str] | None = None, *, task: Literal["nc", "lp"] = "nc", arrays: Mapping[str, np.ndarray] | None = None
) -> GraphData:
    """The class hierarchy of Python's standard library, or the graph of an `.npz` file.

    A file has `edges` int [2, E], or a normalised adjacency `adj_row`, `adj_col`, `adj_val` (row receives from
    column); `features` [N, F], or CSR parts `features_indices`, `features_indptr`, `features_shape` and, unless all
    are 1, `features_data`, or only `num_nodes`; and, where it has them, `labels` [N], `names` [N], `label_names`, `idx_train`,
    `idx_val`, `idx_test`, `val_edges` and `val_edges_false` [P, 2], `node_features` [N, f],
    `edge_features` [E, e] beside `edges`. For `task="nc"` the fifth feature of `airport.npz` is left
    out, because the labels were made from it. `arrays`: those of the file at `path`, if they have been read already. Raises `DataError` for
    a file in another format.
    """
    path = SHIPPED if path is None else Path(path)
    found = _Arrays(path, _read(path) if arrays is None else arrays)
    features = _features(found)
    n = features.shape[0]
    if (count := found.integers("num_nodes", ())) is not None and count != n:
        raise found.error("features", f"are those of {n} nodes, and the graph has {count}", "save a row for each node")
    if task == "nc" and path.stem == "airport" and features.shape[1] == 5:
        features = features[:, :4]
    edges, graph, beside = _edges(found, n)
    labels = found.integers("labels", (n,))
    if labels is not None and len(labels) and labels.min() < 0:
        raise found.error("labels", f"contains the value {labels.min()}", "number the classes from 0")
    return GraphData(
        name=path.stem,
        edges=edges,
        graph=graph,
        features=np.ascontiguousarray(features),
        labels=labels,
        names=found.strings("names", n),
        label_names=found.strings("label_names", None),
        idx_train=found.nodes("idx_train", (None,), n),
        idx_val=found.nodes("idx_val", (None,), n),
        idx_test=found.nodes("idx_test", (None,), n),
        val_edges=found.nodes("val_edges", (None, 2), n),
        val_edges_false=found.nodes("val_edges_false", (None, 2), n),
        node_features=found.rows("node_features", n),
        edge_features=beside,
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path} contains a single array: pass an .npz file with named arrays")
        with archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: pass the path of an .npz graph") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder: pass the path of an .npz file in it") from None
    except (BadZipFile, EOFError, ValueError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as .npz ({error}): save it again with numpy.savez") from error


@dataclasses.dataclass(frozen=True)
class _Arrays:
    """The arrays of one file, checked as they are taken."""

    path: Path
    arrays: Mapping[str, np.ndarray]

    def error(self, key: str, found: str, remedy: str) -> DataError:
        return DataError(f"{self.path}: {key} {found}: {remedy}")

    def needed(self, key: str, remedy: str) -> np.ndarray:
        if key not in self.arrays:
            found = ", ".join(sorted(self.arrays)) or "nothing"
            raise self.error(key, f"is missing (the file contains {found})", remedy)
        return self.arrays[key]

    def integers(self, key: str, shape: tuple[int | None, ...]) -> Any:
        array = self.arrays.get(key)
        if array is None:
            return None
        if array.dtype.kind not in "iu":
            raise self.error(key, f"has dtype {array.dtype}", "save whole numbers, int32")
        if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape)):
            wanted = "[" + ", ".join("*" if n is None else str(n) for n in shape) + "]"
            raise self.error(key, f"has shape {array.shape}", f"save shape {wanted}")
        return array.astype(np.int32)

    def nodes(self, key: str, shape: tuple[int | None, ...], num_nodes: int) -> Any:
        array = self.integers(key, shape)
        if array is not None and array.size and (array.min() < 0 or array.max() >= num_nodes):
            bad = array[(array < 0) | (array >= num_nodes)].flat[0]
            raise self.error(key, f"contains the node {bad}", f"number the nodes from 0 to {num_nodes - 1}")
        return array

    def rows(self, key: str, count: int) -> np.ndarray | None:
        """Finite numbers [count, *]."""
        array = self.arrays.get(key)
        if array is None:
            return None
        if array.ndim != 2 or len(array) != count or array.dtype.kind not in "fiub":
            raise self.error(key, f"has shape {array.shape}, dtype {array.dtype}", f"save numbers, shape [{count}, *]")
        if not np.isfinite(array).all():
            raise self.error(key, f"is not finite in row {int(np.argwhere(~np.isfinite(array))[0, 0])}", "replace it with numbers")
        return array.astype(np.float32)

    def strings(self, key: str, count: int | None) -> tuple[str, ...] | None:
        array = self.arrays.get(key)
        if array is not None and (array.dtype.kind != "U" or array.ndim != 1 or count not in (None, len(array))):
            raise self.error(key, f"has shape {array.shape}, dtype {array.dtype}", f"save {count or 'its'} strings")
        return None if array is None else tuple(array.tolist())


def _features(arrays: _Arrays) -> np.ndarray:
    if "features" in arrays.arrays:
        key, features = "features", arrays.arrays["features"]
        if features.ndim != 2 or features.dtype.kind not in "fiub":
            raise arrays.error(key, f"has shape {features.shape}, dtype {features.dtype}", "save numbers, shape [N, F]")
    elif "num_nodes" in arrays.arrays and "features_indices" not in arrays.arrays:
        return np.zeros((int(arrays.integers("num_nodes", ())), 0), np.float32)
    else:
        key, remedy = "features_data", "save features [N, F], or its CSR parts"
        indices = arrays.needed("features_indices", remedy)
        indptr = arrays.needed("features_indptr", remedy)
        shape = tuple(int(n) for n in arrays.needed("features_shape", remedy))
        data = arrays.arrays.get(key, np.ones(len(indices), np.float32))
        if len(shape) != 2 or len(indptr) != shape[0] + 1 or not len(data) == len(indices) == indptr[-1]:
            found = f"{shape}, with {len(indptr)} row pointers, {len(indices)} indices and {len(data)} values"
            raise arrays.error("features_shape", f"is {found}", "save the parts of one scipy.sparse.csr_array")
        if len(indices) and (indices.min() < 0 or indices.max() >= shape[1] or (np.diff(indptr) < 0).any()):
            raise arrays.error("features_indices", f"reach outside the shape {shape}", "save the parts of one csr_array")
        features = np.zeros(shape, np.float32)
        np.add.at(features, (np.repeat(np.arange(shape[0]), np.diff(indptr)), indices), data)
    bad = np.argwhere(~np.isfinite(features))
    if len(bad):
        row, column = bad[0]
        raise arrays.error(key, f"is {features[row, column]} at node {row}, column {column}", "replace it with a number")
    return features.astype(np.float32)


def _edges(arrays: _Arrays, n: int) -> tuple[np.ndarray, Graph, np.ndarray | None]:
    weights = None
    if "adj_row" in arrays.arrays:
        row, column = arrays.nodes("adj_row", (None,), n), arrays.needed("adj_col", "save the sender of each entry")
        weights = arrays.needed("adj_val", "save the weight of each entry")
        pairs, name = np.stack([column, row]) if column.shape == row.shape else row[None], "adj_row, adj_col, adj_val"
    else:
        pairs, name = arrays.needed("edges", "save int32 [2, E], or adj_row, adj_col and adj_val"), "edges"
    try:
        graph = Graph.from_edge_index(pairs, num_nodes=n, weights=weights)
    except GraphError as error:
        raise DataError(f"{arrays.path}: {name}: {error}") from error
    keep = pairs[0] < pairs[1] if weights is not None else pairs[0] != pairs[1]
    if weights is not None and "edge_features" in arrays.arrays:
        raise arrays.error("edge_features", "accompany a matrix", "save the edges as int32 [2, E], and their features in that order")
    beside = arrays.rows("edge_features", pairs.shape[1])
    edges = pairs[:, keep].astype(np.int32)
    return edges, graph if weights is not None else graph.undirected(), None if beside is None else beside[keep]
