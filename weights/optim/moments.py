"""What a file's optimizer keeps beside one parameter, read from the file when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from weights.files.tensors import Tensor
from weights.mapping.entries import Entry


class Moments(Mapping[str, Any]):
    """The state of a parameter under torch's names: tensors as arrays in the parameter's layout here, other values as they are.

    An array is read anew each time and is read-only. So a state as large as the model, of which each array becomes one of jax, is in memory
    once: whoever takes an array lets it go. Whether there is one, and what else there is, is known without reading.
    """

    def __init__(self, entry: Entry, values: Mapping[str, Any]):
        self._entry, self._values = entry, values

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        return self._entry.layout.forward(value.array()) if isinstance(value, Tensor) else value

    def get(self, name: str, default: Any = None) -> Any:
        """The value; `default` where there is none, and not where reading it fails, as that of Mapping would for a KeyError."""
        return self[name] if name in self._values else default

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


__all__ = ["Moments"]
