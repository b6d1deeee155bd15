"""A conversion beside a witness: what the person's own program computed, as `weights/proof/recorder.py` recorded it. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from weights.checkpoint import Checkpoint
from weights.errors import Unmatched, Unreadable, shown
from weights.files import npz
from weights.mapping.probes import Edges
from weights.types import Document

FORMAT = 1
SEED = 0
AGAIN = "Record it again with the script of this version (hyperport recorder)"


@dataclass(frozen=True)
class Witness:
    """A recording. arrays: by their places. meta: the description that the recorder wrote."""

    path: Path
    arrays: Mapping[str, np.ndarray]
    meta: Document

    @classmethod
    def read(cls, path: str | Path, checkpoint: Checkpoint) -> Witness:
        """A recording, or arrays that the authors' code has written by names that the checkpoint's architecture knows.

        Raises Unreadable for any other file.
        """
        path = Path(path)
        npz.check(path)
        try:
            with np.load(path, allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
        except (FileNotFoundError, IsADirectoryError) as error:
            raise Unreadable(f"cannot be opened ({error.strerror})", "Give the path of a witness, an .npz file", path=path) from None
        except (OSError, ValueError, TypeError, BadZipFile, EOFError) as error:
            raise Unreadable(f"not a witness ({error!r:.80})", AGAIN, path=path) from None
        try:
            meta = json.loads(str(arrays.pop("meta"))) if "meta" in arrays else None
            if meta is None:
                return cls.of_authors(path, arrays, checkpoint)
            version = meta["witness"]
        except KeyError as error:
            raise Unreadable(f"not a witness: it has no {shown(error.args[0])}", AGAIN, path=path) from None
        except (ValueError, TypeError, RecursionError) as error:
            raise Unreadable(f"not a witness ({error!r:.80})", AGAIN, path=path) from None
        if version != FORMAT:
            raise Unreadable(f"a witness of version {version}; this version reads {FORMAT}", AGAIN, path=path)
        return cls(path, arrays, meta)

    @classmethod
    def of_authors(cls, path: Path, arrays: Mapping[str, np.ndarray], checkpoint: Checkpoint) -> Witness:
        """Arrays that the authors' code has written: inputs, outputs, and the gradients grad/<key> of its loss."""
        table = checkpoint.port
        if table is None or table.probe is None or table.probe.recorded is None:
            raise Unreadable(f"no recording, and {checkpoint.arch} has no names for arrays of its authors' code", AGAIN, path=path)
        found = table.probe.recorded(checkpoint.settings, arrays)
        placed = {f"outputs/{name}": array for name, array in found.outputs.items()}
        placed |= {f"gradients/{key.removeprefix('grad/')}": array for key, array in arrays.items() if key.startswith("grad/")}
        meta = {"inputs": found.inputs, "outputs": dict.fromkeys(found.outputs), "modules": {}, "steps": 0, "parameters": {}, "drift": None}
        groups = found.resumed and found.resumed.groups
        return cls(path, placed, {**meta, "loss": found.loss, "resumed": found.resumed, "training": found.training, "groups": groups})

    @property
    def drifts(self) -> bool:
        """Whether the program's own drift was recorded."""
        return self.meta["drift"] is not None

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays whose places begin with the prefix, by the rest."""
        return {place.removeprefix(prefix): array for place, array in self.arrays.items() if place.startswith(prefix)}

    @property
    def dtype(self) -> str:
        """The precision of the program: that of its parameters."""
        kinds = {entry["dtype"].rpartition(".")[2] for entry in self.meta["parameters"].values()}
        return "float64" if "float64" in kinds else "float32"

    def drift(self, place: str) -> float:
        """How far the program's own array moved after all its parameters moved by one unit in the last place."""
        return float(self.meta["drift"].get(place, 0.0))

    def value(self, node: Document) -> Any:
        """A value as it was given to the recorder; a sparse matrix as `Edges`, row receiving from column."""
        ((kind, inner), *_) = node.items()
        if kind == "array":
            return self.arrays[inner]
        if kind == "sparse":
            return _edges(self.arrays[f"{inner}/indices"], self.arrays[f"{inner}/values"], node["shape"])
        if kind == "dict":
            return {name: self.value(child) for name, child in inner.items()}
        if kind == "list":
            return [self.value(child) for child in inner]
        return None if kind == "none" else inner

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs by name."""
        if not self.drifts:
            return self.meta["inputs"]
        return {name: self.value(node) for name, node in self.meta["inputs"].items()}


def _edges(indices: np.ndarray, values: np.ndarray, shape: list[int]) -> Edges:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise Unmatched(f"a sparse input has shape {shape}; a graph is a square matrix", "Record the adjacency matrix")
    return Edges(senders=indices[1], receivers=indices[0], num_nodes=shape[0], weights=values.astype(np.float64))


def script() -> str:
    """The recorder's source, to be run beside the person's program."""
    return Path(__file__).with_name("recorder.py").read_text(encoding="utf-8")


__all__ = ["SEED", "Witness", "script"]
