"""Keys that no architecture has: which ones they are, what wrote them, and how they go away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

WRITTEN = (
    (r".*\bparametrizations\.(?P<name>\w+)\.\w+", "torch.nn.utils.parametrize.remove_parametrizations(module, {name!r})"),
    (r".*\b(?P<name>weight\w*|bias)_[gv]", "torch.nn.utils.remove_weight_norm(module, {name!r})"),
    (r".*\b(?P<name>weight\w*|bias)_(orig|mask)", "torch.nn.utils.remove_spectral_norm or torch.nn.utils.prune.remove(module, {name!r})"),
    (r".*\blora_\w+(\..*)?", "model.merge_and_unload() of peft"),
)
"""What torch and others put in the place of a tensor, and the call after which the file has the tensor itself."""
SHOWN = 4


def remedy(keys: Iterable[str]) -> tuple[list[str], str] | None:
    """The keys that a reparametrization wrote, and the call that removes it; None where there are none."""
    for pattern, call in WRITTEN:
        if found := [match for key in keys if (match := re.fullmatch(pattern, key))]:
            return [match.group(0) for match in found], call.format(**found[0].groupdict())
    return None


def some(keys: Sequence[str]) -> str:
    """A few of the keys, and how many there are."""
    return ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")


__all__ = ["remedy", "some"]
