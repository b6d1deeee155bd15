"""Edge lists in files, block by block: parquet, npz, and text with columns, compressed or not."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
from jaxtyping import Float64, Int64

from port_jax.data.dataset import DataError

__all__ = ["BLOCK", "Block", "edge_blocks", "edge_files"]

BLOCK = 1 << 20
"""As many edges are in memory at once."""
NPZ = (("senders", "receivers", "weights"), ("adj_col", "adj_row", "adj_val"))
"""Names of arrays in `.npz` files; in an adjacency, a row receives from a column."""
TEXT = (".csv", ".tsv", ".txt")
DELIMITERS = "\t,; "
HEAD = 1 << 16
"""Bytes of a text file in which its comments and its first line of columns are looked for."""


class Block(NamedTuple):
    """Some edges of a file, in its order."""

    senders: Int64[np.ndarray, " B"]
    receivers: Int64[np.ndarray, " B"]
    weights: Float64[np.ndarray, " B"] | None


def edge_files(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files of a path, of several, or of a folder, whose parquet files it means, by name. DataError if there are none."""
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    found: list[Path] = []
    for path in map(Path, given):
        with _told(path):
            inside = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path} is a folder without parquet files; give the edge lists themselves")
        found += inside
    if not found:
        raise DataError("no file is given; give the path of an edge list: a .parquet, .npz, .csv, .tsv or .txt file")
    for path in found:
        if not os.path.lexists(path):
            raise DataError(f"{path} does not exist; give the path of an edge list: a .parquet, .npz, .csv, .tsv or .txt file")
        _reader(path)
    return found


def edge_blocks(path: Path, columns: Sequence[str] | None = None) -> Iterator[Block]:
    """The edges of one file, at most `BLOCK` at a time.

    `columns` names the senders, the receivers and, if there are three, the weights. Without it they are the first two columns of parquet
    and text, or the arrays `senders`, `receivers` and `weights`, or `edges` [2, E], or `adj_col`, `adj_row` and `adj_val` of an npz. Text
    has commas, tabs, semicolons or blanks between columns, lines that begin with # before the first one, and names of columns or none.

    Errors: DataError, which names the file, for one that cannot be read, a column that it does not have, values that are no whole numbers
    of at least 0, weights that are not finite. ModuleNotFoundError for parquet and text without pyarrow.
    """
    row = 0
    with _told(path):
        for senders, receivers, weights in _reader(path)(path, columns):
            senders, receivers = _checked(path, row, "senders", senders), _checked(path, row, "receivers", receivers)
            if weights is not None:
                weights = np.asarray(weights, np.float64)
                if not np.isfinite(weights).all():
                    at = int(np.argmin(np.isfinite(weights)))
                    raise DataError(f"{path}: the weight of edge {row + at} is {weights[at]}; give finite weights")
            yield Block(senders, receivers, weights)
            row += len(senders)


def _reader(path: Path) -> Any:
    inner = path.with_suffix("") if path.suffix in (".gz", ".bz2", ".zst", ".lz4") else path
    if inner.suffix == ".parquet":
        return _parquet
    if path.suffix == ".npz":
        return _npz
    if inner.suffix in TEXT:
        return _text
    raise DataError(f"{path} ends with {path.suffix or 'nothing'}; give a .parquet, .npz, .csv, .tsv or .txt file, text also as .gz")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of a library as DataError with the file's name."""
    try:
        yield
    except DataError:
        raise
    except (BadZipFile, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); give a whole file of edges") from error


def _checked(path: Path, row: int, name: str, ids: Any) -> Int64[np.ndarray, " B"]:
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise DataError(f"{path}: {name} are {ids.dtype}; give the numbers of nodes, whole numbers from 0")
    wrong = (ids < 0) | (ids > np.iinfo(np.int32).max)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(f"{path}: {name}[{row + at}] is {ids[at]}; number the nodes from 0 to at most {np.iinfo(np.int32).max}")
    return ids.astype(np.int64)


def _arrow(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("parquet and text are read by pyarrow, which is not installed; pip install hyperport[edges]") from error


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[Any, Any, Any]]:
    file = _arrow("pyarrow.parquet").ParquetFile(path)
    chosen = _columns(path, file.schema_arrow.names, columns)
    for batch in file.iter_batches(BLOCK, columns=list(chosen)):
        yield _parts(path, batch, chosen)


def _text(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[Any, Any, Any]]:
    arrow, csv = _arrow("pyarrow"), _arrow("pyarrow.csv")
    with arrow.input_stream(str(path), compression="detect") as stream:
        head = stream.read(HEAD)
    lines = head.decode("utf-8-sig", "replace").splitlines()
    skipped = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), None)
    if len(head) == HEAD and skipped in (None, len(lines) - 1):
        raise DataError(f"{path} begins with {HEAD} bytes of comments or with a line as long; give a file without them")
    if skipped is None:
        return
    first = lines[skipped].strip()
    delimiter = next((mark for mark in DELIMITERS if mark in first), ",")
    cells = [cell.strip('" ') for cell in first.split(delimiter)]
    titled = not all(map(_is_number, cells))
    names = cells if titled else [f"f{i}" for i in range(len(cells))]
    chosen = _columns(path, names, columns)
    types = {name: arrow.float64() if i == 2 else arrow.int64() for i, name in enumerate(chosen)}
    with csv.open_csv(
        arrow.input_stream(str(path), compression="detect"),
        read_options=csv.ReadOptions(skip_rows=skipped + titled, column_names=names, block_size=16 * BLOCK),
        parse_options=csv.ParseOptions(delimiter=delimiter),
        convert_options=csv.ConvertOptions(include_columns=list(chosen), column_types=types),
    ) as batches:
        for batch in batches:
            yield _parts(path, batch, chosen)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _columns(path: Path, names: Sequence[str], columns: Sequence[str] | None) -> tuple[str, ...]:
    chosen = tuple(names[:2]) if columns is None else tuple(columns)
    if missing := [name for name in chosen if name not in names]:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(map(repr, names))}")
    if len(chosen) not in (2, 3):
        raise DataError(f"{path}: {len(chosen)} columns are named; name the senders, the receivers and, if there are any, the weights")
    return chosen


def _parts(path: Path, batch: Any, chosen: tuple[str, ...]) -> tuple[Any, Any, Any]:
    found = [batch.column(name) for name in chosen]
    for name, column in zip(chosen, found, strict=True):
        if column.null_count:
            raise DataError(f"{path}: column {name!r} has empty cells; fill them, or leave their lines out")
    senders, receivers, *weights = (column.to_numpy(zero_copy_only=False) for column in found)
    return senders, receivers, weights[0] if weights else None


def _npz(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[Any, Any, Any]]:
    with ZipFile(path) as archive, contextlib.ExitStack() as stack:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]

        def member(name: str, rank: int = 1) -> _Member:
            found = _Member(stack.enter_context(archive.open(f"{name}.npy")))
            if len(found.shape) != rank or (found.fortran and rank > 1) or found.dtype.hasobject:
                is_ = f"{found.dtype}{list(found.shape)}{' in Fortran order' * found.fortran}"
                raise DataError(f"{path}: {name} is {is_}; save it as an array of numbers with {rank} axes, in C order")
            return found

        if columns is None and "edges" in names:
            senders, receivers, weights = member("edges", 2), member("edges", 2), None
            if senders.shape[0] != 2:
                raise DataError(f"{path}: edges has shape {senders.shape}; save [2, E], the senders and the receivers")
            receivers.skip(receivers.shape[1])
            count = senders.shape[1]
        else:
            known = next((three for three in NPZ if set(three[:2]) <= {*names}), NPZ[0])
            chosen = _columns(path, names, known[: 2 + (known[2] in names)] if columns is None else columns)
            senders, receivers, *rest = map(member, chosen)
            weights, (count,) = rest[0] if rest else None, senders.shape
            if any(other.shape != senders.shape for other in (receivers, *rest)):
                lengths = ", ".join(str(x.shape[0]) for x in (senders, receivers, *rest))
                raise DataError(f"{path}: {', '.join(chosen)} have the lengths {lengths}; save one number for each edge in each")
        for begin in range(0, count, BLOCK):
            size = min(BLOCK, count - begin)
            yield senders.read(size), receivers.read(size), None if weights is None else weights.read(size)


class _Member:
    """One array of an npz, read from its beginning to its end."""

    def __init__(self, file: Any):
        self.file = file
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, self.fortran, self.dtype = header(file)

    def read(self, count: int) -> np.ndarray:
        wanted = count * self.dtype.itemsize
        found = io.BytesIO()
        while found.tell() < wanted and (part := self.file.read(wanted - found.tell())):
            found.write(part)
        return np.frombuffer(found.getbuffer(), self.dtype)

    def skip(self, count: int) -> None:
        left = count * self.dtype.itemsize
        while left and (part := self.file.read(min(left, HEAD))):
            left -= len(part)
