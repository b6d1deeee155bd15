"""From a converted checkpoint back to the torch file it came from, with the numbers as they are now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from weights.checkpoint import Checkpoint
from weights.errors import ConversionError
from weights.files import sections
from weights.files import source as sources
from weights.files.tensors import Tensor
from weights.files.writer import write
from weights.mapping import convert
from weights.optim import engine as optimizers


def export(checkpoint: Checkpoint | str | Path, path: str | Path) -> None:
    """Writes a checkpoint, or the folder of one, as the torch file it was: keys, order, ties, wrappers, optimizer dialect.

    Tensors that were not trained on come back bit by bit.
    """
    if not isinstance(checkpoint, Checkpoint):
        from weights.store import restore

        checkpoint = restore(checkpoint)
    try:
        root = torch_tree(checkpoint)
        write(path, root)
    except ConversionError as error:
        raise error.at(path) from None


def torch_tree(checkpoint: Checkpoint) -> Any:
    """The object that torch.save would be given."""
    origin = checkpoint.source
    parts = sections.split(origin.root)
    by_tensor: dict[int, str] = {}
    by_place: dict[tuple, str] = {}
    for key, tensor in parts.tensors.items():
        short = f"{parts.prefix}{key}".removeprefix(origin.prefix)
        by_tensor[id(tensor)] = short
        by_place.setdefault(tensor.place, short)
    kept = {id(t): origin.kept[n] for n, t in enumerate(sources.tensors_of(origin.root)) if n in origin.kept}
    variables = {name: tree for name, tree in checkpoint.variables.items() if tree or name != "params"}
    value = convert.to_torch(checkpoint.entries, variables, checkpoint.constants)

    def values(tensor: Tensor) -> np.ndarray:
        if id(tensor) in kept:
            return kept[id(tensor)]
        return value(by_tensor.get(id(tensor)) or by_place[tensor.place])

    replaced: list[tuple[Any, Any]] = []
    if checkpoint.plan is not None and origin.optimizer_at:
        raw = sources.at(origin.root, origin.optimizer_at)
        timing = None if checkpoint.plan.scheduler is None else parts.scheduler
        section, timed = optimizers.save(raw, checkpoint.plan, checkpoint.opt_state, checkpoint.entries, kept, timing)
        replaced = [(raw, section)] + ([(timing, timed)] if timed is not timing else [])
    return sources.filled(origin, values, replaced)
