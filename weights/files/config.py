"""The configuration: a JSON file or a mapping, over what the checkpoint itself carries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from weights.errors import ConversionError, Unreadable, Usage, shown
from weights.files import inputs, json_text
from weights.files.budget import DEPTH, Budget
from weights.types import Config, Document

REMEDY = "Give the config.json of the training run"


def read_config(given: str | Path | Config | None, carried: Config | None) -> Document | None:
    """The given configuration merged over the one that the file carries; None if there is neither.

    Arrays and numbers of numpy become plain ones. Raises Usage for a path that cannot be opened, for anything but a mapping, and for
    values that JSON does not have; Unreadable for a file that is not JSON; Refused for one with a key twice, or with more or longer
    values than a configuration has.
    """
    if given is None:
        return None if carried is None else dict(carried)
    if isinstance(given, (str, Path)):
        given = _parsed(Path(given))
    if not isinstance(given, Mapping):
        raise Usage(f"config is a {type(given).__name__}", "Give a mapping, or the path of a JSON file that contains one")
    if odd := [key for key in given if not isinstance(key, str)]:
        raise Usage(f"the configuration has the key {shown(odd[0])}, which is not text", "Rename it, or leave it out")
    return {**(carried or {}), **{key: _plain(value, key) for key, value in given.items()}}


def _plain(value: Any, key: object, depth: int = 0) -> Any:
    """A value as JSON has it, at a key of the configuration."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)) and depth < DEPTH:
        return (list if isinstance(value, list) else tuple)(_plain(item, key, depth + 1) for item in value)
    if isinstance(value, Mapping) and depth < DEPTH and all(isinstance(name, str) for name in value):
        return {name: _plain(item, key, depth + 1) for name, item in value.items()}
    raise Usage(
        f"the configuration's {shown(key)} is {shown(value)}, which JSON does not have", "Write it as text or numbers, or leave it out"
    )


def _parsed(path: Path) -> Any:
    try:
        size = inputs.size_of(path)
        budget = Budget(size, REMEDY)
        json_text.require(size, budget)
        return json_text.parsed(path.read_bytes(), budget)
    except OSError as error:
        raise Usage(f"the configuration cannot be opened ({error.strerror})", "Give the path of a JSON file", path=path) from None
    except ConversionError as error:
        raise error.at(path) from None
    except ValueError as error:
        raise Unreadable(f"the configuration is not JSON ({error})", REMEDY, path=path) from None


__all__ = ["read_config"]
