"""A converted checkpoint as a folder: Orbax for the arrays, a JSON file for each document."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from weights.errors import Unreadable, shown
from weights.files.budget import MEMORY, Budget
from weights.files.dtypes import NUMPY
from weights.files.inputs import size_of
from weights.files.outputs import entry, new_directory
from weights.files.tensors import buffer
from weights.types import Document

PIECE = 32 << 20
DOCUMENTS = ("config", "report", "torch")


def write(directory: Path, arrays: Mapping[str, ArrayLike], documents: Mapping[str, Document], overwrite: bool = False) -> None:
    """Writes config.json, report.json, torch.json and `arrays` (Orbax), all or none; other files of the folder stay.

    The arrays are numbered in their order, which torch.json lists; those above 32 MiB are flat pieces `<number>_<piece>`.
    """
    with new_directory(directory, is_ours, overwrite) as folder:
        with _addressed(folder) as address:
            _write_arrays(address / "arrays", arrays)
        for name in DOCUMENTS:
            (folder / f"{name}.json").write_text(json.dumps(documents[name], indent=None if name == "torch" else 1))


def is_ours(directory: Path) -> bool:
    """Whether a folder has the description of a converted checkpoint."""
    try:
        size_of(path := entry(directory, "torch.json"))
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"format", "keys", "arrays"} <= found.keys()


def has_all(directory: Path) -> bool:
    """Whether a folder has every entry of a converted checkpoint, whatever has become of them."""
    try:
        return entry(directory, "arrays").is_dir() and all(entry(directory, f"{name}.json").is_file() for name in DOCUMENTS)
    except OSError:
        return False


def read_documents(directory: Path) -> dict[str, bytes]:
    """The JSON files of a folder; Unreadable for a folder that is not a converted checkpoint."""
    texts = {}
    for name in DOCUMENTS:
        try:
            path = entry(directory, f"{name}.json")
            size_of(path)
            texts[name] = path.read_bytes()
        except OSError as error:
            raise Unreadable(f"not a converted checkpoint: its {name}.json cannot be opened ({error.strerror})",
                             "Give a folder that hyperport convert wrote") from None  # fmt: skip
    return texts


def read_arrays(directory: Path, expected: Mapping[str, Sequence]) -> dict[str, np.ndarray]:
    """The arrays that `expected` lists by name with type and shape, in the order of writing.

    They are read with tensorstore, which Orbax uses too: Orbax would decode all arrays at once, at addresses from which jax has to copy.
    Unreadable where an array is missing, damaged, or of another type or shape, Refused where they claim more than the folder has.
    """
    if not (home := entry(directory, "arrays")).is_dir():
        raise Unreadable("the folder of arrays is missing", "Convert again")
    budget = Budget(_size(home), "Convert again")
    with _addressed(home) as address:
        return _read_arrays(address, expected, budget)


def _read_arrays(home: Path, expected: Mapping[str, Sequence], budget: Budget) -> dict[str, np.ndarray]:
    import tensorstore as ts

    context, arrays = ts.Context(), {}
    for n, (name, (dtype, shape)) in enumerate(expected.items()):
        size = math.prod(shape) * _type(dtype).itemsize
        budget.spend(MEMORY, size, f"the array {shown(name)}")
        flat = buffer(size).view(_type(dtype))
        for key, part in _pieces(str(n), flat).items():
            try:
                stored = ts.open(_spec(home, key), context=context, open=True, read=True).result()
                if stored.dtype.numpy_dtype != flat.dtype or math.prod(stored.shape) != part.size:
                    raise ValueError(f"{key} is {stored.dtype.name} {stored.shape}, not {dtype} of {part.size}")
                ts.array(part.reshape(stored.shape)).write(stored).result()
            except (ValueError, OSError, KeyError, TypeError) as error:
                why = str(error).splitlines()[0][:120]
                raise Unreadable(f"the arrays are damaged ({name}: {why})", "Convert again") from None
        arrays[name] = flat.reshape(shape)
    return arrays


@contextlib.contextmanager
def _addressed(folder: Path) -> Iterator[Path]:
    """The folder, through a link where its own path cannot stand in an address of tensorstore: bytes that are no text, and %, # or ?."""
    path = str(folder.absolute())
    if path.isprintable() and not set(path) & set("%#?"):
        yield folder
        return
    with tempfile.TemporaryDirectory() as beside:
        link = Path(beside, "link")
        link.symlink_to(path, target_is_directory=True)
        yield link


def _size(home: Path) -> int:
    """The bytes of all files of a folder. Unreadable for a pipe among them, which tensorstore would wait for, or a device."""
    total = 0
    for path in home.rglob("*"):
        try:
            total += 0 if path.is_dir() else size_of(path)
        except OSError as error:
            where = shown(str(path.relative_to(home)))
            raise Unreadable(f"the arrays are damaged: {where} cannot be opened ({error.strerror})", "Convert again") from None
    return total


def _write_arrays(folder: Path, arrays: Mapping[str, ArrayLike]) -> None:
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.CRITICAL)  # it would log with a traceback what is raised here
    tree: dict[str, np.ndarray] = {}
    for n, value in enumerate(arrays.values()):
        tree.update(_pieces(str(n), np.asarray(value)))
    handlers = ocp.type_handlers
    # Without Orbax's copies, as nothing changes the arrays meanwhile, and uncompressed: trained weights shrink by less
    # than a tenth, and compressed blocks wait in memory until they are written.
    keeping = handlers.create_type_handler_registry((np.ndarray, handlers.NumpyHandler(deepcopy_host_arrays=False)))
    try:
        # Of several processes the first one alone comes here (`weights.processes`), so Orbax must not wait for the others.
        alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="hyperport")
        handler = ocp.PyTreeCheckpointHandler(use_compression=False, type_handler_registry=keeping, multiprocessing_options=alone)
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as writer:
            writer.save(folder.absolute(), tree or {"none": np.zeros(1)})
        for key, part in tree.items():
            _require_written(folder, key, part)
    except (ValueError, RuntimeError, TypeError) as error:  # how tensorstore says that a disk is full
        raise OSError(f"the arrays: {_why(error)}") from None


def _why(error: Exception) -> str:
    """What the system says, in a message of tensorstore that has the paths of temporary files before it and JSON behind it."""
    text = str(error)
    if code := re.search(r"os_error_code='?(\d+)", text):
        return os.strerror(int(code[1]))
    words = re.sub(r"\s*\[\w+( \w+)*='.*", "", text.partition("\n")[0]).rpartition('": ')[2]
    return words[-160:]


def _spec(folder: Path, key: str) -> Document:
    return {"driver": "zarr", "kvstore": {"driver": "ocdbt", "base": f"file://{folder.absolute()}/", "path": f"{key}/"}}


def _require_written(folder: Path, key: str, part: np.ndarray) -> None:
    """Reads a piece back: Orbax writes in the background, and what it says of a disk that is full depends on its version."""
    import tensorstore as ts

    back = ts.open(_spec(folder, key), open=True, read=True).result().read().result()
    here, there = (np.ascontiguousarray(a).reshape(-1).view(np.uint8).data for a in (part, back))
    if here != there:
        raise OSError(f"the arrays: {key} reads back differently")


def _pieces(key: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """What Orbax is given of an array: the array, flat pieces of a large one, nothing of an empty one."""
    if array.nbytes <= PIECE:
        return {key: array} if array.size else {}
    flat, step = np.ascontiguousarray(array).reshape(-1), PIECE // array.itemsize
    return {f"{key}_{at // step}": flat[at : at + step] for at in range(0, flat.size, step)}


def _type(name: str) -> np.dtype:
    return NUMPY.get(name) or np.dtype(name)


__all__ = ["DOCUMENTS", "has_all", "is_ours", "read_arrays", "read_documents", "write"]
