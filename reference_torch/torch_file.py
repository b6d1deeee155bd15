"""The torch file of a reference and a fresh optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import geoopt
import torch
from torch import nn


def write(path: Path, module: nn.Module, dtype: str, optimizer: tuple[str, Mapping[str, Any]] | None) -> None:
    """Saves "model" in this type, and "optimizer": of geoopt's class of this name, else torch's, with these arguments over all parameters.

    Raises LookupError for a name that neither has, TypeError or ValueError for arguments that the class does not take.
    """
    saved: dict[str, Any] = {"model": module.to(getattr(torch, dtype)).state_dict()}
    if optimizer is not None:
        saved["optimizer"] = _state(module.parameters(), optimizer)
    torch.save(saved, path)


def write_fresh(path: Path, parameters: Iterable[tuple[Sequence[int], str]], optimizer: tuple[str, Mapping[str, Any]]) -> None:
    """Saves "optimizer" over zeros of these shapes and types. Errors: those of `write`."""
    zeros = [nn.Parameter(torch.zeros(*shape, dtype=getattr(torch, dtype))) for shape, dtype in parameters]
    torch.save({"optimizer": _state(zeros, optimizer)}, path)


def _state(parameters: Iterable[nn.Parameter], optimizer: tuple[str, Mapping[str, Any]]) -> dict[str, Any]:
    name, options = optimizer
    kind = getattr(geoopt.optim, name, None) or getattr(torch.optim, name, None)
    if not isinstance(kind, type):
        raise LookupError(f"neither geoopt nor torch has an optimizer {name!r}")
    return kind(parameters, **options).state_dict()  # pyright: ignore[reportCallIssue]


__all__ = ["write", "write_fresh"]
