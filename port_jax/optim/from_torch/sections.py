"""A section: torch's state of one optimizer, with the paths of parameters in place of indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

__all__ = ["Entry", "Section", "Settings", "plain"]

Settings = Mapping[str, Any]
Entry = Mapping[str, Any]
"""torch's state of one parameter: buffers and the count under torch's names."""


class Section(NamedTuple):
    """The state of an optimizer by group.

    groups: the settings, as in `param_groups`. members: the paths of each group's parameters, in torch's order. entries: the state of
    each of them by path; a parameter without an entry has no state.
    """

    groups: Sequence[Settings]
    members: Sequence[Sequence[str]]
    entries: Sequence[Mapping[str, Entry]]

    @property
    def everything(self) -> dict[str, Entry]:
        """The entries of all groups by path."""
        return {path: entry for group in self.entries for path, entry in group.items()}

    @property
    def one(self) -> Section:
        """All parameters in one group with the settings of the first, as a line search treats them."""
        return Section(self.groups[:1], [[path for own in self.members for path in own]], [self.everything])


def plain(value: Any) -> Any:
    """A zero-dimensional array as a Python number, so that it promotes nothing; a list or tuple of those as a tuple."""
    if isinstance(value, tuple | list):
        return tuple(plain(x) for x in value)
    return value.item() if isinstance(value, np.ndarray | np.generic | jax.Array) else value
