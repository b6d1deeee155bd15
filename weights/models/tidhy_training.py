"""What a file of TiDHy says of its training: GradNorm's weights and first losses, which only `model_dict` has, both ways.

ckpt = weights.load("last_3.pth.tar")
balance = Balance(**gradnorm(ckpt.source))    # for `port_jax.models.tidhy_training.collections`
ckpt.after("run").export("last_6.pth.tar")    # of a run of `fit` that went on from there: with its weights, by `collected`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.files import source as sources
from weights.files.source import Source
from weights.files.tensors import Tensor

SECTION = "model_dict"
KEYS = {"weights": "loss_weights", "initial": "l0"}
"""The names of the original."""
BEGINS = "no variable of the model: a run with GradNorm begins with it, by gradnorm(ckpt.source) of weights.models.tidhy_training"


def gradnorm(source: Source) -> dict[str, np.ndarray] | None:
    """The weights [3] and the losses of the first step [3], by these names; None for a file of a run without GradNorm, or before a step."""
    numbers = _positions(source)
    return {name: source.kept[n] for name, n in numbers.items()} if len(numbers) == len(KEYS) else None


def with_gradnorm(source: Source, weights: Any, initial: Any) -> Source:
    """The source with these numbers, which the next export then writes. Raises Unmatched where the file has none, or others in number."""
    numbers, given = _positions(source), {"weights": weights, "initial": initial}
    if len(numbers) < len(KEYS):
        raise Unmatched(f"the file's model_dict has no {' and '.join(KEYS.values())}", "Export without them: its run had no GradNorm")
    kept = dict(source.kept)
    for name, n in numbers.items():
        old, new = kept[n], np.asarray(given[name])
        if old.shape != new.shape:
            raise Unmatched(f"{KEYS[name]} has shape {new.shape}; the file's has {old.shape}", "Give those of this run")
        kept[n] = new.astype(old.dtype)
    return replace(source, kept=kept)


def collected(source: Source, collections: Mapping[str, Any]) -> tuple[Source, tuple[str, ...]]:
    """The source with GradNorm's weights and first losses of a run, where the file has a place for them; the name of that collection.

    No file of the original has the last r2 (`latents`) and the gradients of an R2 decoder (`r2_decoder`): a run of it that goes on from a
    file begins with zeros.
    """
    balance = collections.get("gradnorm")
    if balance is None or len(_positions(source)) < len(KEYS):
        return source, ()
    return with_gradnorm(source, balance["weights"], balance["initial"]), ("gradnorm",)


def begins(source: Source) -> dict[str, str]:
    """By the places of the weights and first losses, what the report says of them; empty where `gradnorm` has none."""
    return dict.fromkeys((f"{SECTION}.{key}" for key in KEYS.values()), BEGINS) if gradnorm(source) else {}


def _positions(source: Source) -> dict[str, int]:
    """Where the tensors are among those that the source keeps."""
    root = source.root if isinstance(source.root, Mapping) else {}
    section = root.get(SECTION)
    found = {name: section.get(key) for name, key in KEYS.items()} if isinstance(section, Mapping) else {}
    at = {id(tensor): n for n, tensor in enumerate(sources.tensors_of(source.root))}
    return {name: at[id(t)] for name, t in found.items() if isinstance(t, Tensor) and at.get(id(t)) in source.kept}


__all__ = ["begins", "collected", "gradnorm", "with_gradnorm"]
