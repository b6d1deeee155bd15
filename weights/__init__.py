"""Checkpoints of hyperbolic models between torch and JAX. The names load on first use, so that importing this is quick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weights.checkpoint import Checkpoint, export, load, restore
    from weights.errors import ConversionError, NotWritten, Refused, Unmatched, Unreadable, Usage
    from weights.files.reader import read
    from weights.files.writer import write
    from weights.mapping.port import Functions, Port
    from weights.mapping.rules import TRANSPOSE, Rule, buffer, constant, curvature, linear, module, param, permute, reshape, tied
    from weights.proof.parity import parity
    from weights.proof.recorder import Witness as witness
    from weights.views.embed import Embeddings, embeddings

RULES = ("TRANSPOSE", "Rule", "buffer", "constant", "curvature", "linear", "module", "param", "permute", "reshape", "tied")
_HOMES = {
    "Checkpoint": "checkpoint",
    "load": "checkpoint",
    "Embeddings": "views.embed",
    "embeddings": "views.embed",
    "export": "checkpoint",
    "restore": "checkpoint",
    "parity": "proof.parity",
    **dict.fromkeys(("Functions", "Port"), "mapping.port"),
    **dict.fromkeys(RULES, "mapping.rules"),
    "read": "files.reader",
    "witness": "proof.recorder:Witness",
    "write": "files.writer",
    **dict.fromkeys(("ConversionError", "NotWritten", "Refused", "Unmatched", "Unreadable", "Usage"), "errors"),
}

__all__ = [
    "TRANSPOSE", "Checkpoint", "ConversionError", "Embeddings", "Functions", "NotWritten", "Port", "Refused", "Rule", "Unmatched",
    "Unreadable", "Usage", "buffer", "constant", "curvature", "embeddings", "export", "linear", "load", "module", "param", "parity",
    "permute", "read", "reshape", "restore", "tied", "witness", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'weights' has no attribute {name!r}")
    home, _, attribute = _HOMES[name].partition(":")
    value = getattr(import_module(f"weights.{home}"), attribute or name)
    globals()[name] = value
    return value
