"""Graphs that are larger than memory: incoming edges of each node in files, from which batches are drawn."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int32, Int64
from tqdm import tqdm

from port_jax.arguments import PATH, TRUTH, Kind, optional, takes, whole
from port_jax.data.dataset import DataError
from port_jax.data.edge_files import Block, edge_blocks, edge_files
from port_jax.graphs import Graph

__all__ = ["StoredGraph", "store_graph"]

DESCRIPTION = "graph.json"
VERSION = 1
MOST_PARTS = 512
"""As many files are open at once."""
PATHS = Kind(
    lambda found: PATH.fits(found) or (isinstance(found, (list, tuple)) and len(found) > 0 and all(map(PATH.fits, found))),
    "the path of an edge list, or a list of such paths",
)
COLUMNS = Kind(
    lambda found: isinstance(found, (list, tuple)) and len(found) in (2, 3) and all(isinstance(name, str) for name in found),
    "the names of the columns of senders, receivers and, if there are any, weights",
)


@dataclasses.dataclass(frozen=True)
class StoredGraph:
    """A graph on disk, as `store_graph` writes it.

    The arrays are memory-mapped: of a file, only what is looked at is read.

        stored = StoredGraph.open("graph")
        batches = NeighborSampler(stored, fanouts=(10, 10), batch_size=256)
    """

    senders: Int32[np.ndarray, " E"]
    """The senders of the edges into node 0, then of those into node 1, and so on."""
    starts: Int64[np.ndarray, " N+1"]
    """Of each node, the place of its first incoming edge; at the end, the number of edges."""
    weights: Float[np.ndarray, " E"] | None = None
    """float32, or None."""

    @property
    def num_nodes(self) -> int:
        """The number of nodes N."""
        return len(self.starts) - 1

    @staticmethod
    @takes(folder=PATH)
    def open(folder: str | os.PathLike[str]) -> StoredGraph:
        """The graph in a folder. DataError for a folder that `store_graph` has not written, or whose files do not belong together."""
        folder = Path(folder)
        try:
            said = json.loads((folder / DESCRIPTION).read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"{folder / DESCRIPTION} cannot be read ({error}); give a folder that store_graph has written") from None
        if said.get("version") != VERSION:
            raise DataError(f"{folder} has version {said.get('version')}, and this program reads {VERSION}; write it again by store_graph")
        arrays = {name: _mapped(folder / f"{name}.npy") for name in ("senders", "starts", *(["weights"] if said["weights"] else []))}
        lengths = {"senders": said["num_edges"], "starts": said["num_nodes"] + 1, "weights": said["num_edges"]}
        for name, array in arrays.items():
            if array.shape != (lengths[name],):
                named = f"{folder / name}.npy has shape {array.shape}, and {DESCRIPTION} says {lengths[name]}"
                raise DataError(f"{named}; write the folder again by store_graph")
        return StoredGraph(**arrays)

    def whole(self) -> Graph:
        """The graph in memory, for one that fits there."""
        receivers = np.repeat(np.arange(self.num_nodes, dtype=np.int32), np.diff(self.starts))
        return Graph.from_edges(self.senders, receivers, num_nodes=self.num_nodes, weights=self.weights)


@takes(
    paths=PATHS,
    folder=PATH,
    columns=optional(COLUMNS),
    directed=TRUTH,
    num_nodes=optional(whole(1)),
    memory=whole(1),
    progress=optional(TRUTH),
)
def store_graph(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    directed: bool = True,
    num_nodes: int | None = None,
    memory: int = 1 << 30,
    progress: bool | None = None,
) -> StoredGraph:
    """Writes the edges of files to a new folder, by receiver, and opens it. It is done once; processes on one file system share a folder.

        stored = store_graph("edges.parquet", "graph", columns=("source", "target"))

    The edges of a node are in the order of the files, as those of `Graph.from_edges` are; weights are rounded to float32. A file is read
    twice, and its edges are written twice, so that besides `memory` bytes and a few blocks, 32 bytes a node are all that is in memory,
    however many edges there are.

    Arguments:
        paths: an edge list or several, .parquet, .npz, .csv, .tsv or .txt, text also compressed (.csv.gz); or a folder of parquet files.
        columns: the names of senders, receivers and weights; by default those of `edges`, `senders` and so on in an npz, and the first
            two columns of parquet and text, without weights.
        directed: False adds the opposite of each edge that is no loop, right after it.
        num_nodes: by default the largest number of a node, plus 1.
        memory: bytes to sort edges in.

    Errors: DataError for files that cannot be read, nodes outside of [0, num_nodes), a folder that exists and is not empty, and too little
    memory. Where it fails or is interrupted, the folder is not there.
    """
    files, folder = edge_files(paths), Path(folder)
    with (
        _told(folder),
        _new(folder) as scratch,
        tqdm(unit=" edges", unit_scale=True, disable=None if progress is None else not progress) as bar,
    ):
        bar.set_description("counting")
        degrees, weighted = _degrees(files, columns, directed, num_nodes, bar)
        starts = np.zeros(len(degrees) + 1, np.int64)
        np.cumsum(degrees, out=starts[1:])
        np.save(scratch / "starts.npy", starts)
        bar.reset(2 * int(starts[-1]))
        bar.set_description("sorting")
        _sort(files, columns, directed, starts, weighted, memory, scratch, bar)
        said = {"version": VERSION, "num_nodes": len(starts) - 1, "num_edges": int(starts[-1]), "weights": weighted, "directed": directed}
        (scratch / DESCRIPTION).write_text(json.dumps({**said, "files": [path.name for path in files]}, indent=1) + "\n")
    return StoredGraph.open(folder)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """What the file system refuses, as DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error}); give another folder, or make room there") from error


@contextlib.contextmanager
def _new(folder: Path) -> Iterator[Path]:
    """A folder beside the new one, which takes its place at the end, and is gone if anything fails."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not empty; give another folder, or delete this one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".unfinished", dir=folder.parent))
    try:
        yield scratch
        scratch.chmod(0o777 & ~_umask())
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _edges(files: Sequence[Path], columns: Sequence[str] | None, directed: bool) -> Iterator[tuple[Path, Block]]:
    for path in files:
        for block in edge_blocks(path, columns):
            yield path, block if directed else _both(block)


def _both(block: Block) -> Block:
    """Each edge and, unless it is a loop, its opposite after it."""
    kept = np.stack([np.ones(len(block.senders), bool), block.senders != block.receivers], 1).reshape(-1)
    senders, receivers = (
        np.stack(pair, 1).reshape(-1)[kept] for pair in ((block.senders, block.receivers), (block.receivers, block.senders))
    )
    return Block(senders, receivers, None if block.weights is None else np.repeat(block.weights, 2)[kept])


def _degrees(
    files: Sequence[Path], columns: Sequence[str] | None, directed: bool, num_nodes: int | None, bar: Any
) -> tuple[Int64[np.ndarray, " N"], bool]:
    """The number of edges into each node, and whether edges have weights."""
    degrees, largest, weighted = np.zeros(num_nodes or 1024, np.int64), -1, None
    for path, block in _edges(files, columns, directed):
        if not len(block.senders):
            continue
        if weighted not in (None, block.weights is not None):
            has = "weights" if block.weights is not None else "no weights"
            raise DataError(f"{path} has {has}, unlike the files before; give all or none")
        weighted = block.weights is not None
        last = int(max(block.senders.max(), block.receivers.max()))
        if num_nodes is not None and last >= num_nodes:
            raise DataError(f"{path} names node {last}, and num_nodes is {num_nodes}; correct the file, or give at least {last + 1}")
        largest = max(largest, last)
        if last >= len(degrees):
            degrees = np.concatenate([degrees, np.zeros(max(last + 1 - len(degrees), len(degrees)), np.int64)])
        nodes, counts = np.unique(block.receivers, return_counts=True)
        degrees[nodes] += counts
        bar.update(len(block.senders))
    if num_nodes is None and largest < 0:
        raise DataError(f"{files[0]} has no edges; give num_nodes, if the graph has nodes")
    return degrees[: num_nodes or largest + 1], bool(weighted)


def _sort(
    files: Sequence[Path],
    columns: Sequence[str] | None,
    directed: bool,
    starts: Int64[np.ndarray, " N+1"],
    weighted: bool,
    memory: int,
    scratch: Path,
    bar: Any,
) -> None:
    """Writes senders.npy and weights.npy: the edges go to parts by ranges of receivers, and each part is sorted in memory."""
    kind = np.dtype([("sender", "<i4"), ("receiver", "<i4"), *([("weight", "<f4")] if weighted else [])])
    edge = 4 * kind.itemsize  # itself, its place in the order, and what is written of it
    first = _parts(starts, max(memory // edge, 1))
    if len(first) - 1 > MOST_PARTS:
        least = 2 * edge * int(starts[-1]) // MOST_PARTS
        raise DataError(f"memory is {memory}, which is too little to sort {starts[-1]} edges in; give at least {least}")
    paths = [scratch / f"part-{i}" for i in range(len(first) - 1)]
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(path.open("wb")) for path in paths]
        for _, block in _edges(files, columns, directed):
            edges = np.empty(len(block.senders), kind)
            edges["sender"], edges["receiver"] = block.senders, block.receivers
            if block.weights is not None:
                edges["weight"] = block.weights
            part = np.searchsorted(first, block.receivers, side="right") - 1
            order = np.argsort(part, kind="stable")
            bounds = np.searchsorted(part[order], np.arange(len(first)))
            for i in np.unique(part).tolist():
                opened[i].write(edges[order[bounds[i] : bounds[i + 1]]].tobytes())
            bar.update(len(edges))
    names = {"senders": ("sender", np.int32), **({"weights": ("weight", np.float32)} if weighted else {})}
    with contextlib.ExitStack() as stack:
        outputs = {name: stack.enter_context((scratch / f"{name}.npy").open("wb")) for name in names}
        for name, (_, dtype) in names.items():
            header = {"shape": (int(starts[-1]),), "fortran_order": False, "descr": np.lib.format.dtype_to_descr(np.dtype(dtype))}
            np.lib.format.write_array_header_1_0(outputs[name], header)
        for i, path in enumerate(paths):
            alone = first[i + 1] - first[i] == 1  # the edges of one node are in order, however many they are
            for edges in _read(path, kind, memory // (2 * kind.itemsize) if alone else -1):
                edges = edges if alone else edges[np.argsort(edges["receiver"], kind="stable")]
                for name, (which, _) in names.items():
                    outputs[name].write(np.ascontiguousarray(edges[which]).tobytes())
                bar.update(len(edges))
            path.unlink()


def _parts(starts: Int64[np.ndarray, " N+1"], most: int) -> Int64[np.ndarray, " parts+1"]:
    """The first node of each part, and N: parts have at most `most` edges, or one node."""
    first = [0]
    while (begin := first[-1]) < len(starts) - 1:
        end = int(np.searchsorted(starts, starts[begin] + most, side="right")) - 1
        first.append(max(end, begin + 1))
    return np.asarray(first)


def _read(path: Path, kind: np.dtype, count: int) -> Iterator[np.ndarray]:
    """The edges of a part, `count` at a time, or all of them for -1."""
    with path.open("rb") as file:
        while len(edges := np.fromfile(file, kind, count)):
            yield edges


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r") if path.stat().st_size > 128 else np.load(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); write the folder again with store_graph") from None
