"""safetensors files: the length of a JSON header, the header, the tensors' bytes one after another."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from weights.errors import NotWritten, Refused, Unreadable, shown
from weights.files import json_text
from weights.files.archive import CHUNK, read_into
from weights.files.budget import MEMORY, OBJECT, Budget
from weights.files.dtypes import NUMPY, SAFETENSORS, torch_name
from weights.files.inputs import size_of
from weights.files.outputs import new_file
from weights.files.tensors import MAX_DIMENSIONS, Storage, Tensor, buffer, checked, contiguous_stride
from weights.types import Document

PLAIN = {"format": "pt"}
"""The metadata that torch's files have."""
CARRIED = "safetensors_metadata"
"""The attribute under which the tensors of a file carry its metadata."""
_CODES = {name: code for code, name in SAFETENSORS.items()}


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins with a header's length and a header."""
    return len(head) > 8 and int.from_bytes(head[:8], "little") < 1 << 40 and head[8:9] == b"{"


def read(path: Path, budget: Budget) -> tuple[OrderedDict[str, Tensor], dict[str, str]]:
    """The tensors in the order of their bytes, which stay in the file until they are asked for, and the metadata.

    Unreadable for a file that is damaged or cut off, Refused for a header with a key twice or beyond the budget.
    """
    size = size_of(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > size:
            raise Unreadable("the safetensors header is damaged or cut off", "Copy the file again")
        json_text.require(length, budget)
        try:
            header = json_text.parsed(file.read(length), budget)
        except ValueError:
            raise Unreadable("the safetensors header is damaged or cut off", "Copy the file again") from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise Unreadable("the metadata of the safetensors header are not texts", "Copy the file again")
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    end = 0
    for key, entry in sorted(header.items(), key=lambda item: _span(*item)):
        begin, after = _span(key, entry)
        dtype, shape = _type(key, entry), tuple(entry["shape"])
        if not all(type(n) is int and 0 <= n < 1 << 60 for n in shape):
            raise Unreadable(f"the entry {shown(key)} has shape {shown(shape)}", "Copy the file again")
        if begin != end or 8 + length + after > size:
            where = "overlaps the one before" if begin < end else "leaves bytes before it to no tensor" if begin > end else "is cut off"
            raise Unreadable(
                f"the entry {shown(key)} {where}: it has bytes {begin} to {after} of {size - 8 - length}", "Copy the file again"
            )
        if after - begin != math.prod(shape) * NUMPY[dtype].itemsize:
            raise Unreadable(f"the entry {shown(key)} of shape {shown(shape)} has {after - begin} bytes", "Copy the file again")
        budget.spend(MEMORY, 4 * OBJECT, "its header")
        storage = Storage(dtype, math.prod(shape), _slice(path, 8 + length + begin, math.prod(shape), NUMPY[dtype]))
        tensors[key] = checked(budget, storage, 0, shape, contiguous_stride(shape))
        end = after
    if 8 + length + end != size:
        raise Unreadable(f"{size - 8 - length - end} bytes belong to no tensor", "Copy the file again")
    return tensors, metadata


def with_metadata(tensors: OrderedDict[str, Tensor], metadata: Mapping[str, str]) -> OrderedDict[str, Tensor]:
    """A file's tensors that carry its metadata, for the files that they are written to; what every file of torch says is no metadata."""
    if metadata and metadata != PLAIN:
        setattr(tensors, CARRIED, dict(metadata))
    return tensors


def without_metadata(root: object) -> object:
    """The same object as it is pickled, where such metadata have no place."""
    if isinstance(root, OrderedDict):
        vars(root).pop(CARRIED, None)
    return root


def metadata_of(root: object) -> dict[str, str]:
    """The metadata that a file's tensors carry; empty where there are none."""
    found = vars(root).get(CARRIED) if isinstance(root, OrderedDict) else None
    good = isinstance(found, dict) and all(isinstance(text, str) for pair in found.items() for text in pair)
    return dict(found) if good and found else {}


def write(path: Path, arrays: Mapping[str, ArrayLike | Tensor], metadata: Mapping[str, str], overwrite: bool = False) -> None:
    """Writes arrays under their names, whole or not at all, one after another: none is in memory twice, and the elements of a tensor only
    while they are written."""
    header: Document = {"__metadata__": dict(metadata)}
    widest_first = sorted(arrays.items(), key=lambda item: -_form(item[1])[0].itemsize)
    end = 0
    for name, value in widest_first:  # so that each begins at a multiple of its elements' size
        dtype, shape = _form(value)
        code = _CODES.get(torch_name(dtype)) if dtype in NUMPY.values() else None
        if code is None:
            raise NotWritten(f"{name} is {dtype}, which safetensors does not have", "Give a folder or .npz", path=path)
        size = math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    try:
        json_text.require(len(text), Budget(8 + len(text) + end))
    except Refused:
        what = f"its header would have {len(text)} bytes for {end} bytes of tensors, and could not be read again"
        raise NotWritten(what, "Give a folder or .npz", path=path) from None
    with new_file(path, overwrite) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, value in widest_first:
            _write_elements(file, value)


def _form(value: ArrayLike | Tensor) -> tuple[np.dtype, tuple[int, ...]]:
    """Type and shape of what is written, without its elements where it is a tensor."""
    return (NUMPY[value.dtype], value.shape) if isinstance(value, Tensor) else (np.asarray(value).dtype, np.shape(value))


def _write_elements(file: BinaryIO, value: ArrayLike | Tensor) -> None:
    array = value.array() if isinstance(value, Tensor) else value
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    for at in range(0, len(flat), CHUNK):
        file.write(flat[at : at + CHUNK])


def _span(key: str, entry: object) -> tuple[int, int]:
    """The first byte of an entry, and the first after it."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(n) is int and n >= 0 for n in offsets):
        raise Unreadable(f"the entry {shown(key)} of the safetensors header is {shown(entry)}", "Copy the file again")
    return offsets[0], offsets[1]


def _type(key: str, entry: Document) -> str:
    code = entry.get("dtype")
    if (
        not isinstance(code, str)
        or code not in SAFETENSORS
        or not isinstance(entry.get("shape"), list)
        or len(entry["shape"]) > MAX_DIMENSIONS
    ):
        raise Unreadable(f"the entry {shown(key)} is {shown(entry)}", "Save it in a type that numpy has")
    return SAFETENSORS[code]


def _slice(path: Path, start: int, numel: int, dtype: np.dtype) -> Callable[[], np.ndarray]:
    def fetch() -> np.ndarray:
        out = buffer(numel * dtype.itemsize)
        with open(path, "rb", buffering=0) as file:
            read_into(file.fileno(), start, out, "a tensor")
        return out.view(dtype)

    return fetch


__all__ = ["PLAIN", "is_safetensors", "metadata_of", "read", "with_metadata", "without_metadata", "write"]
