"""Every hyper-parameter of a model, and where each was found: given, in the configuration, or in the file's shapes and values."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from weights.errors import Unmatched, Usage
from weights.mapping.domains import require
from weights.types import Config, Document

_MISSING: Any = object()
WHERE = {"option": "the option", "config": "the configuration"}
"""The sources that a person writes, in words."""


class Settings:
    """Collects values with their sources. A contradiction or a gap is an error that names the option to give."""

    def __init__(self, config: Config | None, given: Mapping[str, object]):
        self.config, self.has_config = dict(config or {}), config is not None
        self.given = {name: value for name, value in given.items() if value is not None}
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.in_file: set[str] = set()
        """Names of settings that the file itself contains, whatever else says the same."""

    def settle(self, name: str, inferred: Any = _MISSING, source: str = "the file", *, default: Any = _MISSING,
               same: Callable[[Any, Any], bool] = operator.eq) -> Any:  # fmt: skip
        """The value of a setting: given, else from the configuration, else inferred, else (with a configuration) the default.

        Raises Unmatched if two of the first three differ or a value is out of the setting's domain, Usage if there is no value.
        """
        found = [(where, table[name]) for where, table in (("option", self.given), ("config", self.config)) if name in table]
        like = True if same is same_flag else default if default is not _MISSING else None if inferred is _MISSING else inferred
        for where, value in found:
            require(name, value, like, WHERE.get(where, where))
        if inferred is not _MISSING:
            found.append((source, inferred))
            self.in_file.add(name)
        if not found and default is not _MISSING and self.has_config:
            found.append(("default", default))
        if not found:
            raise Usage(f"{name} is neither in the file nor in the configuration", f"Give {_option(name)}")
        (where, value), *others = found
        for other, contrary in others:
            if not same(value, contrary):
                raise Unmatched(
                    f"{name} is {value} according to {where} and {contrary} according to {other}",
                    f"Correct the configuration, or give {_option(name)}",
                )
        self.values[name], self.sources[name] = value, where
        return value

    def reported(self) -> Document:
        """Value and source by name, and whether the file says it."""
        return {name: {"value": v, "from": self.sources[name], "in_file": name in self.in_file} for name, v in self.values.items()}


def _option(name: str) -> str:
    if name == "curvature":
        return "--curvature (curvature=...)"
    return f"--config with a file that contains {name!r} (config={{{name!r}: ...}})"


def same_flag(a: object, b: object) -> bool:
    """Equality of switches, which configurations write as 0 and 1 or as false and true."""
    return bool(a) == bool(b)


def same_numbers(a: object, b: object) -> bool:
    """Equality of numbers, or of sequences of them, whatever their container."""
    if isinstance(a, (list, tuple)) or isinstance(b, (list, tuple)):
        left, right = (list(x) if isinstance(x, (list, tuple)) else [x] for x in (a, b))
        return len(left) == len(right) and all(same_numbers(x, y) for x, y in zip(left, right))
    return a == b


__all__ = ["Settings", "same_flag", "same_numbers"]
