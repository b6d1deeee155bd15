"""The torch file of a reference and a fresh optimizer."""

from __future__ import annotations

from collections.abc import Mapping
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
        name, options = optimizer
        kind = getattr(geoopt.optim, name, None) or getattr(torch.optim, name, None)
        if not isinstance(kind, type):
            raise LookupError(f"neither geoopt nor torch has an optimizer {name!r}")
        saved["optimizer"] = kind(module.parameters(), **options).state_dict()  # pyright: ignore[reportCallIssue]
    torch.save(saved, path)


__all__ = ["write"]
