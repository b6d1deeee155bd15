"""safetensors files: the length of a JSON header, the header, the tensors' bytes one after another."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from weights.errors import NotWritten, Unreadable
from weights.files.archive import CHUNK, read_into
from weights.files.dtypes import NUMPY, SAFETENSORS, torch_name
from weights.files.outputs import new_file
from weights.files.tensors import Storage, Tensor, buffer, checked, contiguous_stride
from weights.types import Document

MAX_HEADER = 64 << 20
_CODES = {name: code for code, name in SAFETENSORS.items()}


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins with a header's length and a header."""
    return len(head) > 8 and int.from_bytes(head[:8], "little") <= MAX_HEADER and head[8:9] == b"{"


def read(path: Path) -> tuple[OrderedDict[str, Tensor], dict[str, str]]:
    """The tensors in the order of their bytes, which stay in the file until they are asked for, and the metadata."""
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(length, MAX_HEADER)))
        except (ValueError, RecursionError):
            header = None
    if not isinstance(header, dict) or 8 + length > size:
        raise Unreadable("the safetensors header is damaged or cut off", "Copy the file again")
    metadata = header.pop("__metadata__", None)
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    end = 0
    for key, entry in sorted(header.items(), key=lambda item: _begin(item[1])):
        if not isinstance(entry, dict) or entry.get("dtype") not in SAFETENSORS or not isinstance(entry.get("shape"), list):
            raise Unreadable(f"the entry {key!r} has type {str(entry)[:60]}", "Save it in a type that numpy has")
        dtype, begin, after = SAFETENSORS[entry["dtype"]], _begin(entry), entry["data_offsets"][1]
        shape = tuple(entry["shape"])
        if not all(type(n) is int and 0 <= n < 1 << 60 for n in shape) or begin != end or 8 + length + after > size:
            raise Unreadable(
                f"the entry {key!r} has shape {shape} and bytes {begin} to {after} of {size - 8 - length}",
                "Copy the file again",
            )
        numel = int(np.prod(shape, dtype=object)) if shape else 1
        if after - begin != numel * NUMPY[dtype].itemsize:
            raise Unreadable(f"the entry {key!r} of shape {shape} has {after - begin} bytes", "Copy the file again")
        storage = Storage(dtype, numel, _slice(path, 8 + length + begin, numel, NUMPY[dtype]))
        tensors[key] = checked(storage, 0, shape, contiguous_stride(shape))
        end = after
    if 8 + length + end != size:
        raise Unreadable(f"{size - 8 - length - end} bytes belong to no tensor", "Copy the file again")
    return tensors, metadata if isinstance(metadata, dict) else {}


def write(path: Path, arrays: Mapping[str, ArrayLike], metadata: Mapping[str, str], overwrite: bool = False) -> None:
    """Writes arrays under their names, whole or not at all, one after another: none is in memory a second time."""
    header: Document = {"__metadata__": dict(metadata)}
    widest_first = sorted(arrays.items(), key=lambda item: -np.asarray(item[1]).dtype.itemsize)
    end = 0
    for name, value in widest_first:  # so that each begins at a multiple of its elements' size
        array = np.asarray(value)
        code = _CODES.get(torch_name(array.dtype)) if array.dtype in NUMPY.values() else None
        if code is None:
            raise NotWritten(f"{name} is {array.dtype}, which safetensors does not have", "Give a folder or .npz", path=path)
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    if len(text) > MAX_HEADER:
        raise NotWritten(f"its header would have {len(text)} bytes", "Give a folder or .npz", path=path)
    with new_file(path, overwrite) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, value in widest_first:
            flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
            for at in range(0, len(flat), CHUNK):
                file.write(flat[at : at + CHUNK])


def _begin(entry: object) -> int:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(n) is int and n >= 0 for n in offsets):
        raise Unreadable(f"an entry of the safetensors header is {str(entry)[:60]}", "Copy the file again")
    return offsets[0]


def _slice(path: Path, start: int, numel: int, dtype: np.dtype) -> Callable[[], np.ndarray]:
    def fetch() -> np.ndarray:
        out = buffer(numel * dtype.itemsize)
        with open(path, "rb", buffering=0) as file:
            read_into(file.fileno(), start, out, "a tensor")
        return out.view(dtype)

    return fetch


__all__ = ["is_safetensors", "read", "write"]
