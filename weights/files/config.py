"""The configuration: a JSON file or a mapping, over what the checkpoint itself carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from weights.errors import Unreadable, Usage
from weights.types import Config, Document


def read_config(given: str | Path | Config | None, carried: Config | None) -> Document | None:
    """The given configuration merged over the one that the file carries; None if there is neither.

    Raises Usage for a path that cannot be opened and for anything but a mapping, Unreadable for a file that is not JSON.
    """
    if given is None:
        return None if carried is None else dict(carried)
    if isinstance(given, (str, Path)):
        path = Path(given)
        try:
            given = json.loads(path.read_bytes())
        except OSError as error:
            raise Usage(f"the configuration cannot be opened ({error.strerror})", "Give the path of a JSON file", path=path) from None
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"the configuration is not JSON ({error})", "Give the config.json of the training run", path=path) from None
    if not isinstance(given, Mapping):
        raise Usage(f"the configuration is a {type(given).__name__}", "Give a mapping, or the path of a JSON file that contains one")
    return {**(carried or {}), **given}


__all__ = ["read_config"]
