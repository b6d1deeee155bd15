"""A converted checkpoint as a folder: Orbax for the arrays, a JSON file for each document."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from weights.errors import Unreadable
from weights.files.atomic import new_directory
from weights.files.dtypes import NUMPY
from weights.files.tensors import buffer
from weights.types import Document

PIECE = 32 << 20
DOCUMENTS = ("config", "report", "torch")


def write(directory: Path, arrays: Mapping[str, ArrayLike], documents: Mapping[str, Document]) -> None:
    """Writes config.json, report.json, torch.json and `arrays` (Orbax), atomically.

    The arrays are numbered in their order, which torch.json lists; those above 32 MiB are flat pieces `<number>_<piece>`.
    """
    with new_directory(directory) as folder:
        _write_arrays(folder / "arrays", arrays)
        for name in DOCUMENTS:
            (folder / f"{name}.json").write_text(json.dumps(documents[name], indent=None if name == "torch" else 1))


def read_documents(directory: Path) -> dict[str, Document]:
    """The JSON files of a folder; Unreadable for a folder that is not a converted checkpoint, or is damaged."""
    try:
        return {name: json.loads((directory / f"{name}.json").read_bytes()) for name in DOCUMENTS}
    except OSError:
        raise Unreadable("not a converted checkpoint: no torch.json, config.json and report.json",
                         "Give a folder that hyperport convert wrote") from None  # fmt: skip
    except ValueError as error:
        raise Unreadable(f"a JSON file of it is damaged ({error})", "Convert again") from None


def read_arrays(directory: Path, expected: Mapping[str, Sequence]) -> dict[str, np.ndarray]:
    """The arrays that `expected` lists by name with type and shape, in the order of writing.

    They are read with tensorstore, which Orbax uses too: Orbax would decode all arrays at once, at addresses from which jax has to copy.
    Unreadable where an array is missing, damaged, or of another type or shape.
    """
    import tensorstore as ts

    if not (directory / "arrays").is_dir():
        raise Unreadable("the folder of arrays is missing", "Convert again")
    base = f"file://{(directory / 'arrays').absolute()}/"
    context, arrays = ts.Context(), {}
    for n, (name, (dtype, shape)) in enumerate(expected.items()):
        flat = buffer(math.prod(shape) * _type(dtype).itemsize).view(_type(dtype))
        for key, part in _pieces(str(n), flat).items():
            spec = {"driver": "zarr", "kvstore": {"driver": "ocdbt", "base": base, "path": f"{key}/"}}
            try:
                stored = ts.open(spec, context=context, open=True, read=True).result()
                if stored.dtype.numpy_dtype != flat.dtype or math.prod(stored.shape) != part.size:
                    raise ValueError(f"{key} is {stored.dtype.name} {stored.shape}, not {dtype} of {part.size}")
                ts.array(part.reshape(stored.shape)).write(stored).result()
            except (ValueError, OSError, KeyError, TypeError) as error:
                why = str(error).splitlines()[0][:120]
                raise Unreadable(f"the arrays are damaged ({name}: {why})", "Convert again") from None
        arrays[name] = flat.reshape(shape)
    return arrays


def _write_arrays(folder: Path, arrays: Mapping[str, ArrayLike]) -> None:
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.ERROR)
    tree: dict[str, np.ndarray] = {}
    for n, value in enumerate(arrays.values()):
        tree.update(_pieces(str(n), np.asarray(value)))
    handlers = ocp.type_handlers
    # Without Orbax's copies, as nothing changes the arrays meanwhile, and uncompressed: trained weights shrink by less
    # than a tenth, and compressed blocks wait in memory until they are written.
    keeping = handlers.create_type_handler_registry((np.ndarray, handlers.NumpyHandler(deepcopy_host_arrays=False)))
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False, type_handler_registry=keeping)) as writer:
        writer.save(folder.absolute(), tree or {"none": np.zeros(1)})


def _pieces(key: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """What Orbax is given of an array: the array, flat pieces of a large one, nothing of an empty one."""
    if array.nbytes <= PIECE:
        return {key: array} if array.size else {}
    flat, step = np.ascontiguousarray(array).reshape(-1), PIECE // array.itemsize
    return {f"{key}_{at // step}": flat[at : at + step] for at in range(0, flat.size, step)}


def _type(name: str) -> np.dtype:
    return NUMPY.get(name) or np.dtype(name)


__all__ = ["DOCUMENTS", "read_arrays", "read_documents", "write"]
