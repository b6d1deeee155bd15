"""A converted checkpoint, and the ways to it and from it: from a torch file, from disk, to disk, to a torch file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weights import store
from weights.contents import Contents
from weights.errors import ConversionError
from weights.exporter import origin, torch_tree
from weights.files.opening import opened
from weights.files.writer import write
from weights.mapping.architecture import TREE
from weights.mapping.conversion import converted
from weights.mapping.parameter_tree import Trained
from weights.models import ARCHITECTURES
from weights.optim.resume import Asked, moved_keys, moves_points, resumed
from weights.types import Config, Curvature, NamedManifolds, Progress


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


def load(path: str | Path, config: str | Path | Config | None = None, arch: str | None = None, curvature: Curvature = None,
         manifolds: NamedManifolds | None = None, *, groups: Sequence[Sequence[str]] | None = None, optimizer: bool | str = True,
         updates_per_step: int | None = None, progress: Progress | None = None) -> Checkpoint:  # fmt: skip
    """Converts a torch file (or safetensors, or an index of shards) without torch and without running anything of it.

    config: a path to a JSON file, or a mapping. arch: a name where the keys do not tell; "tree" for any module.
    curvature: where neither file nor configuration has it. manifolds: for "tree", by key or beginning of keys.
    groups: keys (or patterns) of each of the optimizer's groups, where several have no names. optimizer=False leaves
    its state out; a name ("hgcn.RiemannianAdam") says whose it is. updates_per_step: updates between two steps of the
    file's scheduler, where its counters do not tell. progress(key, done, total) is called for each tensor.

    Raises a ConversionError (Usage, Unreadable, Refused, Unmatched) that names file, key, what was found, and a remedy.
    """
    path = Path(path)
    try:
        file = opened(path, config)
        trained = Trained(moved=moved_keys, on_manifolds=moves_points if optimizer else lambda parts: False)
        found = converted(file, ARCHITECTURES, arch, curvature, manifolds, trained, progress)
        resumption = None
        if optimizer and found.parts.optimizer is not None:
            asked = Asked(groups=groups, name=optimizer if isinstance(optimizer, str) else None, updates_per_step=updates_per_step)
            resumption = resumed(found, file.config or {}, asked)
        source = origin(file.root, found.parts, resumption)
    except ConversionError as error:
        raise error.at(path) from None
    return Checkpoint(
        arch=found.table.name if found.table else TREE,
        model=found.model,
        variables=found.variables,
        optimizer=resumption and resumption.transformation,
        opt_state=resumption and resumption.state,
        constants=found.constants,
        manifolds=found.manifolds,
        config=file.config or {},
        epoch=found.parts.epoch,
        report={**found.report, **({"optimizer": resumption.report} if resumption else {})},
        settings=found.settings,
        entries=found.entries,
        plan=resumption and resumption.plan,
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
