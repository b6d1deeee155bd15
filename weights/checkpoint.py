"""A converted checkpoint, and the ways to it and from it: from a torch file, from disk, to disk, to a torch file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weights import store
from weights.contents import Contents
from weights.errors import ConversionError
from weights.exporter import origin, torch_tree
from weights.files.config import read_config
from weights.files.reader import read
from weights.files.sections import split
from weights.files.writer import write
from weights.mapping import convert, points
from weights.mapping.architecture import TREE
from weights.mapping.leaves import counted
from weights.mapping.matching import matched, own_manifolds
from weights.mapping.recognition import recognised
from weights.mapping.settings import Settings
from weights.models import ARCHITECTURES, tree
from weights.optim.resume import Asked, moved_keys, moves_points, resumed
from weights.report import reported


@dataclass(frozen=True)
class Checkpoint(Contents):
    """A model in JAX, with everything that leads back to torch. `Contents` says what the fields are.

    Arrays are jax's where jax keeps their type; float64 without x64 stays numpy, so that nothing is rounded. To export
    a checkpoint that was trained on: `dataclasses.replace(ckpt, variables=..., opt_state=...)`.
    """

    def save(self, path: str | Path) -> None:
        """Writes a .safetensors or .npz file if `path` ends so, else a folder; atomically, for `weights.restore`."""
        store.save(self, path)

    def export(self, path: str | Path) -> None:
        """Writes the torch file back, with the variables and the optimizer state as they are now."""
        export(self, path)


def load(path: str | Path, config: Any = None, arch: str | None = None, curvature: Any = None,
         manifolds: Mapping[str, Any] | None = None, *, groups: Sequence[Sequence[str]] | None = None, optimizer: bool | str = True,
         updates_per_step: int | None = None, progress: Callable[[str, int, int], None] | None = None) -> Checkpoint:  # fmt: skip
    """Converts a torch file (or safetensors, or an index of shards) without torch and without running anything of it.

    config: a path to a JSON file, or a mapping. arch: a name where the keys do not tell; "tree" for any module.
    curvature: where neither file nor configuration has it. manifolds: for "tree", by key or beginning of keys.
    groups: keys (or patterns) of each of the optimizer's groups, where several have no names. optimizer=False leaves
    its state out; a name ("hgcn.RiemannianAdam") says whose it is. updates_per_step: updates between two steps of the
    file's scheduler, where its counters do not tell. progress(key, done, total) is called for each tensor.

    Raises a ConversionError (Usage, Unreadable, Refused, Unmatched) that names file, key, what was found, and a remedy.
    """
    path = Path(path)
    file = read(path)
    try:
        parts = split(file.root)
        stated = read_config(config, parts.config)
        table, parts = recognised(ARCHITECTURES, arch, parts, stated or {})
        settings = Settings(stated, {"curvature": curvature})
        if table is None:
            model, entries = None, tree.matched(parts, settings, moved_keys)
        else:
            model, entries = matched(table, parts, settings)
        variables, constants = convert.to_flax(parts.tensors, entries, counted(progress, entries))
        variables.setdefault("params", {})
        if table is None:
            riemannian = bool(optimizer) and manifolds is None and moves_points(parts)
            spaces = tree.manifolds(parts, entries, manifolds, riemannian)
        else:
            spaces = own_manifolds(table, model, manifolds)
        points.check(spaces, variables["params"], entries)
        transformation = state = plan = None
        if optimizer and parts.optimizer is not None:
            asked = Asked(groups=groups, name=optimizer if isinstance(optimizer, str) else None, updates_per_step=updates_per_step)
            transformation, state, plan = resumed(table, parts, stated or {}, settings.values, variables["params"], entries, spaces, asked)
        source = origin(file.root, parts, entries, plan, state)
        report = reported(path, file.format, table, parts, settings, entries, plan)
    except ConversionError as error:
        raise error.at(path) from None
    return Checkpoint(
        arch=table.name if table else TREE,
        model=model,
        variables=variables,
        optimizer=transformation,
        opt_state=state,
        constants=constants,
        manifolds=spaces,
        config=stated or {},
        epoch=parts.epoch,
        report=report,
        settings=settings.values,
        entries=entries,
        plan=plan,
        source=source,
        given=manifolds,
    )


def restore(path: str | Path) -> Checkpoint:
    """The checkpoint that `Checkpoint.save` wrote, bit by bit. Unreadable for what is none or damaged."""
    return Checkpoint(**vars(store.read(path)))


def export(checkpoint: Checkpoint | str | Path, path: str | Path) -> None:
    """Writes a checkpoint, or what `save` wrote of one, as the torch file it was: keys, order, ties, wrappers, optimizer dialect.

    Tensors that were not trained on come back bit by bit.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = restore(checkpoint)
    try:
        write(path, torch_tree(checkpoint))
    except ConversionError as error:
        raise error.at(path) from None


__all__ = ["Checkpoint", "export", "load", "restore"]
