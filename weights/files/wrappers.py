"""What wrappers of a module put into its keys: DataParallel, torch.compile, FSDP, activation checkpointing, averaged models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeVar

from weights.errors import Usage

SURE = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Attributes that no model has by itself."""
DOUBTFUL = "module"
"""A wrapper's attribute if nothing stands beside it."""
COUNT = "n_averaged"
"""The counter of torch.optim.swa_utils.AveragedModel, beside its module."""

T = TypeVar("T")


def removed(tensors: Mapping[str, T], prefix: str | None = None) -> tuple[str, dict[str, T]]:
    """The part with which all keys began, and the tensors by their keys without any wrapper's part.

    prefix: keeps only the keys that begin so, and takes it from them. Raises Usage if there are none. Where two keys would become one,
    parts in the middle stay.
    """
    if prefix is not None:
        tensors = {key: tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        if not tensors:
            raise Usage(f"no key begins with {prefix!r}", "Correct --prefix (prefix=...)")
    elif COUNT in tensors and all(key == COUNT or key.startswith(f"{DOUBTFUL}.") for key in tensors):
        tensors = {key: tensor for key, tensor in tensors.items() if key != COUNT}
    begins = prefix or _shared(tensors)
    below = _below(key.removeprefix(begins) for key in tensors)
    short = {key: _without(key.removeprefix(begins), below) for key in tensors}
    if len(set(short.values())) != len(short):
        return begins, {key.removeprefix(begins): tensor for key, tensor in tensors.items()}
    return begins, {short[key]: tensor for key, tensor in tensors.items()}


def _shared(tensors: Mapping[str, object]) -> str:
    """The wrappers' parts with which every key begins."""
    shared = ""
    while tensors:
        firsts = {key.removeprefix(shared).partition(".")[0] for key in tensors}
        first = firsts.pop()
        if firsts or first not in SURE | {DOUBTFUL} or f"{shared}{first}" in tensors:
            return shared
        shared += f"{first}."
    return shared


def _below(keys: Iterable[str]) -> dict[tuple[str, ...], set[str]]:
    """The names that stand directly below each part of the keys."""
    below: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for key in keys:
        parts = key.split(".")
        for n, part in enumerate(parts):
            below[(*parts[:n],)].add(part)
    return below


def _without(key: str, below: Mapping[tuple[str, ...], set[str]]) -> str:
    """A key without wrappers' parts in its middle."""
    parts = key.split(".")
    kept = [p for n, p in enumerate(parts[:-1]) if p not in SURE and not (p == DOUBTFUL and below[(*parts[:n],)] == {DOUBTFUL})]
    return ".".join([*kept, parts[-1]])


__all__ = ["removed"]
