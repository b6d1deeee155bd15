"""The arrays of a graph in a torch file: an adjacency as a sparse tensor of torch, and what stands beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from weights.errors import Unreadable, Usage, shown
from weights.files import npz, places
from weights.files.budget import MEMORY
from weights.files.pickles.standins import Record
from weights.files.reader import TorchFile, read
from weights.files.tensors import Tensor

BESIDE = {"x": "features", "feat": "features", "feats": "features", "y": "labels", "edge_index": "edges"}
"""Other names of the arrays of a graph."""
SPARSE = "_rebuild_sparse_tensor"
ROWWISE, COLUMNWISE = "torch.sparse_csr", "torch.sparse_csc"


def file_of(graph: str | Path) -> Path:
    """The file of a graph that is written FILE or FILE:PLACE."""
    name, colon, place = str(graph).rpartition(":")
    return Path(name) if colon and place and not os.path.exists(graph) and os.path.isfile(name) else Path(graph)


def arrays_of(graph: str | Path) -> dict[str, np.ndarray] | None:
    """The arrays of a torch file by the names of `port_jax.data.load_graph`; None for a file of another kind, such as .npz.

    The adjacency is the only sparse tensor of the file, or the one at the place that is said. Dense tensors, and the sparse features, are
    those beside it. Entries that stand twice are added. Raises Usage where several tensors may be meant, Unreadable for a damaged file.
    """
    path = file_of(graph)
    if path == Path(graph) and _is_npz(path):
        npz.check(path)
        return None
    file, said = read(path), "" if path == Path(graph) else str(graph)[len(str(path)) + 1 :]
    found = {places.written(at): (value, beside) for at, value, beside in _sparse(file.root)}
    square = {at: pair for at, pair in found.items() if _is_square(pair[0])}
    if said and said not in square:
        raise Usage(f"{path} has no square sparse matrix at {said!r}; it has {', '.join(square) or 'none'}", "Correct --graph FILE:PLACE")
    if not said and len(square) > 1:
        raise Usage(f"{path} has {len(square)} sparse matrices: {', '.join(square)}", f"Choose one with --graph {path}:PLACE")
    try:
        if square:
            value, beside = square[said or next(iter(square))]
            return {**_adjacency(value, file), **_dense(beside, file, value)}
        whole = _dense(file.root if isinstance(file.root, dict) else {}, file, None)
    except (ValueError, IndexError, TypeError) as error:
        raise Unreadable(f"its sparse tensor is damaged ({error!s:.100})", "Save it again", path=path) from None
    if "edges" not in whole:
        raise Usage(f"{path} contains no graph", "Give a file with a sparse adjacency, such as {'adj': ..., 'features': ...}, or an .npz")
    return whole


def _is_npz(path: Path) -> bool:
    """Whether it is not for the reader of torch files: absent, a folder, or a zip of numpy's."""
    if not os.path.isfile(path):
        return True
    with open(path, "rb") as file:
        if path.suffix in (".npz", ".npy") or file.read(6) == b"\x93NUMPY":
            return True
    return path.suffix not in (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".tar", ".pkl")


def _sparse(root: object) -> Iterator[tuple[tuple, Record, dict]]:
    """Every sparse tensor with its path and the dict around it."""
    if isinstance(root, Record) and root.cls.name == SPARSE:
        yield (), root, {}
    for path, node in places.within(root):
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for name, value in items:
            if isinstance(value, Record) and getattr(value.cls, "name", None) == SPARSE:
                yield (*path, name), value, node if isinstance(node, dict) else {}


def _parts(value: Record) -> tuple[str, tuple[Tensor, ...], tuple[int, ...]]:
    """The layout, the tensors, and the shape."""
    layout, (*tensors, shape) = value.args[0].args[0], [part for part in value.args[1] if not isinstance(part, bool)]
    if not all(isinstance(tensor, Tensor) for tensor in tensors) or len(shape) != 2:
        raise ValueError("it is no matrix")
    return str(layout), tuple(tensors), tuple(int(n) for n in shape)


def _is_square(value: Record) -> bool:
    try:
        _, _, shape = _parts(value)
    except (ValueError, IndexError, TypeError, AttributeError):
        return False
    return shape[0] == shape[1]


def _entries(value: Record, file: TorchFile) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, ...]]:
    """Rows, columns and values, each entry once, by rows; and the shape."""
    layout, tensors, shape = _parts(value)
    claimed = 8 * shape[0] + 4 * sum(tensor.nbytes for tensor in tensors)
    file.budget.spend(MEMORY, claimed, "unfolding a sparse tensor")
    first, second, *rest = (np.asarray(tensor.array()) for tensor in tensors)
    if layout == "torch.sparse_coo":
        row, column, values = *first, second
    elif layout in (ROWWISE, COLUMNWISE):
        values = rest[0]
        if len(first) != shape[layout == COLUMNWISE] + 1 or (np.diff(first) < 0).any() or first[0] != 0 or first[-1] != len(second):
            raise ValueError("its pointers do not fit its shape")
        row, column = np.repeat(np.arange(len(first) - 1), np.diff(first)), second
        row, column = (column, row) if layout == COLUMNWISE else (row, column)
    else:
        raise Usage(f"a sparse tensor of the layout {shown(layout)} is no graph", "Save tensor.to_sparse_coo()", path=file.path)
    if values.ndim != 1 or not len(row) == len(column) == len(values):
        raise ValueError(f"it has {len(row)} rows, {len(column)} columns, and values of shape {values.shape}")
    if len(row) and (min(row.min(), column.min()) < 0 or row.max() >= shape[0] or column.max() >= shape[1]):
        raise ValueError(f"its indices reach outside the shape {shape}")
    places_, where = np.unique(row.astype(np.int64) * shape[1] + column, return_inverse=True)
    summed = np.zeros(len(places_), np.result_type(values.dtype, np.float32))
    np.add.at(summed, where, values)
    return places_ // shape[1], places_ % shape[1], summed, shape


def _adjacency(value: Record, file: TorchFile) -> dict[str, np.ndarray]:
    """Ones are plain edges, each pair of nodes once; other numbers are the weights of a normalised adjacency (row receives from column)."""
    row, column, values, shape = _entries(value, file)
    if not (values == 1).all():
        return {"num_nodes": np.array(shape[0]), "adj_row": row, "adj_col": column, "adj_val": values}
    pairs = np.unique(np.sort(np.stack([row, column]), axis=0), axis=1)
    return {"num_nodes": np.array(shape[0]), "edges": pairs[:, pairs[0] != pairs[1]]}


def _dense(beside: dict, file: TorchFile, adjacency: Record | None) -> dict[str, np.ndarray]:
    """The arrays beside an adjacency, by their names here."""
    found = {}
    for name, value in beside.items():
        own = BESIDE.get(name, name) if isinstance(name, str) else None
        if own in NAMES and isinstance(value, Tensor):
            file.budget.spend(MEMORY, 4 * value.nbytes, "reading a graph")
            found[own] = np.asarray(value.array())
        elif own == "features" and isinstance(value, Record) and value is not adjacency and getattr(value.cls, "name", None) == SPARSE:
            row, column, values, shape = _entries(value, file)
            file.budget.spend(MEMORY, 4 * shape[0] * shape[1], "unfolding sparse features")
            pointers = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=shape[0]))])
            parts = {"indices": column, "indptr": pointers, "shape": np.array(shape), "data": values}
            found |= {f"features_{part}": array for part, array in parts.items()}
        elif own in ("names", "label_names") and isinstance(value, list) and all(isinstance(text, str) for text in value):
            found[own] = np.array(value)
    return found if adjacency is None else {name: array for name, array in found.items() if name != "edges"}


NAMES = frozenset({
    "edges", "features", "labels", "idx_train", "idx_val", "idx_test", "val_edges", "val_edges_false", "node_features",
})  # fmt: skip
"""What is taken from beside an adjacency, by the names of `load_graph`."""

__all__ = ["arrays_of", "file_of"]
