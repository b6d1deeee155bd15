"""What torch's embedding tables do beside looking rows up: padding, bounded rows, scaled and sparse gradients. Inputs may not show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from weights.proof.causes import Cause
from weights.proof.layers import agree
from weights.proof.rows import FLOAT64, Row
from weights.proof.sides import Sides

STOPPED = "jnp.where((ids == {0})[..., None], jax.lax.stop_gradient(rows), rows)"


@dataclass(frozen=True)
class Lookup:
    """The calls of one table: its key, its rows before them, the ids of all calls, and the arguments of torch's function."""

    key: str
    rows: np.ndarray
    ids: np.ndarray
    said: Mapping[str, Any]

    @property
    def padding(self) -> int | None:
        """The row whose gradient is 0 in torch."""
        row = self.said.get("padding_idx")
        return None if row is None else int(row) % len(self.rows)

    @property
    def long(self) -> np.ndarray:
        """Which of the rows that are looked up are longer than max_norm."""
        used = self.rows[np.unique(self.ids)]
        return np.linalg.norm(used, self.said.get("norm_type") or 2.0, axis=-1) > self.said["max_norm"]


def lookups(sides: Sides) -> list[Lookup]:
    """The tables that one forward pass of the torch module looks rows up in, by `nn.Embedding`, `nn.EmbeddingBag` or their functions."""
    from torch.nn import functional as F
    from torch.overrides import TorchFunctionMode

    module, found = sides.module(), {}
    named = {id(parameter): key for key, parameter in module.named_parameters()}
    before = {key: parameter.detach().numpy().copy() for key, parameter in module.named_parameters()}

    class Watching(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func in (F.embedding, F.embedding_bag):
                ids, weight = args[:2]  # these functions hand themselves on with everything else by name
                if (key := named.get(id(weight))) is not None:
                    found.setdefault((key, str(kwargs.get("padding_idx"))), (kwargs, []))[1].append(ids.detach().numpy().reshape(-1).copy())
            return func(*args, **kwargs)

    with Watching():
        sides.run_torch(module)
    return [Lookup(key, before[key], np.concatenate(ids), said) for (key, _), (said, ids) in found.items()]


def unseen(sides: Sides, level: str) -> list[Row]:
    """A row for each thing that a table does and that the inputs do not show at these levels."""
    told = [(kind, what) for one in lookups(sides) for kind, what in _unseen(one)]
    order = ("forward", "grad", "step")
    reached = order[: order.index(level) + 1] if level in order else ()
    return [Row(level=kind, dtype="", what=what, error=0.0, gate=0.0, ok=True, verified=False) for kind, what in told if kind in reached]


def _unseen(one: Lookup) -> Iterator[tuple[str, str]]:
    row = one.padding
    if row is not None and row not in one.ids:
        yield "grad", f"gradient of row {row} of {one.key} (padding_idx: it is 0 in torch, and the inputs do not contain {row})"
    if one.said.get("max_norm") is not None and not one.long.any():
        most = f"max_norm={one.said['max_norm']:g}"
        yield "forward", f"longer rows of {one.key} ({most}: torch shortens them in place, and the inputs look none up)"
    if one.said.get("scale_grad_by_freq") and len(np.unique(one.ids)) == len(one.ids):
        yield (
            "grad",
            f"gradient of rows of {one.key} (scale_grad_by_freq: torch divides it by their counts, and none is looked up twice)",
        )
    if one.said.get("sparse"):
        yield "step", f"sparse gradients of {one.key} (sparse: both sides took dense ones, which move the rows that are not looked up, too)"


def cause(sides: Sides, key: str, theirs: np.ndarray, ours: np.ndarray) -> Cause | None:
    """What a table does that explains the gradients of a key: padding that the port does not have, or gradients divided by counts."""
    for one in lookups(sides):
        if one.key != key or theirs.shape != ours.shape:
            continue
        row = one.padding
        if row is not None and agree(np.delete(theirs, row, 0), np.delete(ours, row, 0), FLOAT64["grad"]):
            return Cause(f"the gradient of row {row} of {key}, which is 0 in torch: padding_idx={row}", f"Write {STOPPED.format(row)}")
        counts = np.maximum(np.bincount(one.ids, minlength=len(one.rows)), 1)[:, None]
        if one.said.get("scale_grad_by_freq") and agree(theirs * counts, ours, FLOAT64["grad"]):
            return Cause(f"the gradient of {key}, which torch divides by how often a row is looked up: scale_grad_by_freq=True",
                         "Divide the rows' gradients by their counts, by jax.custom_vjp, or leave scale_grad_by_freq out")  # fmt: skip
    return None


def shortened(sides: Sides, name: str, ours: np.ndarray) -> Cause | None:
    """The missing max_norm of the module of this name, where the port gives rows that are longer."""
    for one in lookups(sides):
        most = one.said.get("max_norm")
        if one.key.rpartition(".")[0] == name and most is not None and one.long.any():
            long = np.linalg.norm(ours.astype(np.float64), one.said.get("norm_type") or 2.0, axis=-1) > most * (1 + 1e-6)
            if long.any():
                return Cause(f"max_norm={most:g} of {one.key}, which shortens the rows that are looked up, missing",
                             "Divide longer rows by their norm in the flax module")  # fmt: skip
    return None


__all__ = ["Lookup", "cause", "lookups", "shortened", "unseen"]
