"""What wrappers of a module put into its keys: DataParallel, torch.compile, FSDP, activation checkpointing, averaged models."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
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
    alone = _alone([key.removeprefix(begins) for key in tensors])
    short = {key: _without(key.removeprefix(begins), alone) for key in tensors}
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


def _parts(key: str) -> Iterator[tuple[str, str]]:
    """The parts of a key, each with what stands before it."""
    at = 0
    for part in key.split("."):
        yield key[:at], part
        at += len(part) + 1


def _alone(keys: Collection[str]) -> set[str]:
    """The beginnings of keys after which nothing but the doubtful part follows."""
    begins = {begin for key in keys if DOUBTFUL in key for begin, part in _parts(key) if part == DOUBTFUL}
    if begins:
        begins -= {begin for key in keys for begin, part in _parts(key) if part != DOUBTFUL and begin in begins}
    return begins


def _without(key: str, alone: Collection[str]) -> str:
    """A key without wrappers' parts in its middle."""
    *middle, (_, last) = _parts(key)
    return ".".join([*(part for begin, part in middle if part not in SURE and not (part == DOUBTFUL and begin in alone)), last])


__all__ = ["removed"]
