"""The configuration: a JSON file or a mapping, over what the checkpoint itself carries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weights.errors import ConversionError, Unreadable, Usage
from weights.files import inputs, json_text
from weights.files.budget import Budget
from weights.types import Config, Document

REMEDY = "Give the config.json of the training run"


def read_config(given: str | Path | Config | None, carried: Config | None) -> Document | None:
    """The given configuration merged over the one that the file carries; None if there is neither.

    Raises Usage for a path that cannot be opened and for anything but a mapping, Unreadable for a file that is not JSON, Refused for one
    with a key twice, or with more or longer values than a configuration has.
    """
    if given is None:
        return None if carried is None else dict(carried)
    if isinstance(given, (str, Path)):
        given = _parsed(Path(given))
    if not isinstance(given, Mapping):
        raise Usage(f"the configuration is a {type(given).__name__}", "Give a mapping, or the path of a JSON file that contains one")
    return {**(carried or {}), **given}


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
