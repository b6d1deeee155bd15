"""A converted checkpoint: loaded from a torch file, saved to disk, restored from disk, exported to a torch file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from port_jax.arguments import FUNCTION, MAPPING, PATH, TEXT, TRUTH, Kind, either, instance, one_of, optional, whole
from port_jax.manifolds.base import Manifold
from weights import from_jax, store, training_run
from weights.arguments import takes
from weights.contents import Contents
from weights.errors import ConversionError, Usage
from weights.exporter import origin, tensors_by_key, torch_tree
from weights.files import safetensors
from weights.files.opening import Opened, hashes, opened
from weights.files.outputs import require_file
from weights.files.reader import files_of
from weights.files.sections import Choice
from weights.files.writer import write
from weights.mapping.conversion import converted
from weights.mapping.parameter_tree import Trained
from weights.mapping.port import TREE, Port
from weights.mapping.report import NO_USE, accounted
from weights.models import ARCHITECTURES
from weights.optim.owners import Groups, groups_of_keys
from weights.optim.resume import Asked, moved_keys, moves_points, points_moved, resumed
from weights.processes import gathered, written_by_one
from weights.types import Config, Curvature, NamedManifolds, OptState, Params, Progress

GROUPS = Kind(groups_of_keys, "a list of lists of keys, or such lists by the places of several optimizers")
OPTIMIZER = Kind(
    lambda said: isinstance(said, bool) or _name(said) or (isinstance(said, Mapping) and all(map(_name, said.values()))),
    "True, False, the name of a class, or names by places",
)
MANIFOLDS = Kind(
    lambda said: isinstance(said, Mapping) and all(isinstance(key, str) and _is_space(space) for key, space in said.items()),
    "a dictionary of manifolds by keys: {'emb': PoincareBall(0.7)}, for example",
)
PORT = optional(instance("a weights.Port", Port))


def _name(said: object) -> bool:
    return isinstance(said, str) and said != ""


def _is_space(said: object) -> bool:
    """A manifold, a class of some, a function that makes one, or such by further steps of keys."""
    return isinstance(said, Manifold) or callable(said) or (isinstance(said, Mapping) and MANIFOLDS.fits(said))


@dataclass(frozen=True)
class Checkpoint(Contents):
    """A model in JAX, with everything that is needed to write the torch file again. `Contents` describes the fields.

    Arrays are arrays of jax if jax has their type; without x64, float64 arrays stay arrays of numpy, so that nothing is rounded.
    To export a checkpoint after further training: `dataclasses.replace(ckpt, variables=..., opt_state=...)`.
    """

    @classmethod
    @takes(arch=TEXT, params=MAPPING, settings=MAPPING, optimizer=optional(MAPPING))
    def of(cls, arch: str, params: Params, settings: Config, *, optimizer: Config | None = None, opt_state: OptState | None = None
           ) -> Checkpoint:  # fmt: skip
        """The checkpoint of a model that was made or trained in JAX, as if its torch reference had saved it: for `export` and `save`.

        arch: the architecture's name. params: those of the flax module; the file has the type that holds them all. settings: what the
        model is built from, as `ckpt.settings` has it or a configuration of the original code. optimizer: the "name" of a class of
        geoopt or torch and its arguments; one group of all parameters. opt_state: the state of `ckpt.optimizer`, which is also that of
        `port_jax.optim.riemannian_adam` and its like; without it the state of a run that has not begun.

        The file has what the reference saves beside the parameters, such as fixed curvatures. Needs torch and geoopt, which make the
        reference. Raises Usage for settings, parameters and a state that do not belong together.
        """
        if opt_state is not None and optimizer is None:
            raise Usage("opt_state is given without its optimizer", "Give optimizer={'name': 'RiemannianAdam', 'lr': 0.01}, for example")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{arch}.pth")
            from_jax.write_reference(path, arch, params, settings, optimizer)
            made = load(path, dict(settings), arch, optimizer=str(optimizer[from_jax.NAME]) if optimizer is not None else True)
        report = {**made.report, "file": None, "sha256": None, "about": {"source": "made in JAX"}}
        made = replace(made, variables={**made.variables, "params": from_jax.beside(made.variables["params"], params, "params")})
        state = made.opt_state if opt_state is None else from_jax.beside(made.opt_state, opt_state, "opt_state")
        return replace(made, opt_state=state, report=report)

    @takes(folder=PATH, which=either(one_of("latest", "best"), whole(0)), optimizer=TRUTH)
    def after(self, folder: str | Path, which: str | int = "latest", optimizer: bool = True) -> Checkpoint:
        """This checkpoint after a run of `port_jax.training.fit` that began with it: the numbers of a state in its folder.

        which: "latest", "best", or a step that is kept. optimizer: False keeps the optimizer's state of this checkpoint. The optimizer of
        the run is `ckpt.optimizer`, by itself or in an `optax.chain`; without `ckpt.plans` its state is left out. Raises Unreadable for
        another folder, Usage for the state of another model or optimizer.
        """
        return training_run.after(self, folder, which, optimizer)

    @takes(path=PATH, overwrite=TRUTH)
    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Writes the checkpoint for `weights.restore`, whole or not at all: a file if `path` ends in .safetensors or .npz, else a folder.

        overwrite: replaces a file that is there, and writes into a folder that has no converted checkpoint yet; the folder's other files
        stay. Raises NotWritten where that would be needed and is not said, and if `path` cannot be written.

        In a program of several processes (`jax.distributed`) each calls this with the same path. The first one writes, whole arrays of
        what is split over devices; the others wait, and raise NotWritten if it fails. What no process can hold is for `fit(folder=)`,
        whose processes write their parts.
        """
        whole = gathered(self)
        written_by_one(lambda: store.save(whole, path, overwrite), path)

    def export(self, path: str | Path, overwrite: bool = False) -> None:
        """Writes the torch file again, with the present variables and optimizer state. See `weights.export`."""
        export(self, path, overwrite)


@takes(path=PATH, arch=optional(TEXT), manifolds=optional(MANIFOLDS), groups=optional(GROUPS), optimizer=OPTIMIZER,
       updates_per_step=optional(whole(1)), without_state=optional(one_of("trained", "fixed")), section=optional(TEXT),
       prefix=optional(TEXT), optimizer_at=optional(TEXT), about=optional(MAPPING), progress=optional(FUNCTION))  # fmt: skip
def load(path: str | Path, config: str | Path | Config | None = None, arch: str | None = None, curvature: Curvature = None,
         manifolds: NamedManifolds | None = None, *, groups: Groups = None, optimizer: bool | str | Mapping[str, str] = True,
         updates_per_step: int | None = None, without_state: str | None = None, section: str | None = None, prefix: str | None = None,
         optimizer_at: str | None = None,
         about: Mapping[str, str] | None = None, progress: Progress | None = None, port: Port | None = None) -> Checkpoint:  # fmt: skip
    """Converts a torch file (or safetensors, or an index of shards) without torch and without running anything of it.

    config: the training run's configuration: the path of a JSON file, or a mapping.
    arch: the architecture's name, if the keys do not identify it; "tree" converts the parameters of any module.
    curvature: one for all manifolds or a list with one for each, if neither the file nor the configuration contains it.
    manifolds: for "tree", by key, the beginning of keys, or a pattern ("*.bias"): a manifold; its class, which takes the file's own
    curvature; or a function from the parameters to a manifold.
    groups: the keys (or patterns) of each of the optimizer's groups, if it has several and does not name their parameters. Where the file
    has several optimizers: such lists by their places, {"opt_h": [["emb"]], "opt_e": [["lin.*"]]}, as far as shapes do not tell.
    optimizer: False omits its state; a name, such as "hgcn.RiemannianAdam", is its class, if its settings do not identify it; classes by
    places for several.
    updates_per_step: the updates between two steps of the file's scheduler, if its counters do not determine them.
    without_state: whether parameters that have no state where others have are "trained", and only had no gradient so far, so that they move
    from their first one on as in torch; or "fixed", as is assumed if it is not said. A file does not tell.
    section, prefix, optimizer_at: where in the file the model is ("ema"), what its keys begin with ("model."), and which of several
    optimizers is converted ("optimizer_states.0"), if not all of them: then they become one transformation, and are several in the export.
    about: what the report shall say of the file beside its hash: its source and licence, for example.
    progress: is called for each tensor with its key, how many are done, and how many there are.
    port: a model of one's own, in the place of `arch`.

    Raises a ConversionError (Usage, Unreadable, Refused or Unmatched) that names the file, the key, what was found, and a remedy.
    """
    try:
        file = opened(Path(path), config, Choice(section, prefix, optimizer_at))
    except ConversionError as error:
        raise error.at(path) from None
    return loaded(file, arch, curvature, manifolds, groups=groups, optimizer=optimizer, updates_per_step=updates_per_step,
                  without_state=without_state, about=about, progress=progress, port=port)  # fmt: skip


def loaded(file: Opened, arch: str | None = None, curvature: Curvature = None, manifolds: NamedManifolds | None = None, *,
           groups: Groups = None, optimizer: bool | str | Mapping[str, str] = True, updates_per_step: int | None = None,
           without_state: str | None = None, about: Mapping[str, str] | None = None,
           progress: Progress | None = None, port: Port | None = None) -> Checkpoint:  # fmt: skip
    """What `load` makes of a file that is read already. The arguments are those of `load`."""
    if port is not None and (not isinstance(port, Port) or port.name in {*ARCHITECTURES, TREE}):
        what = f"is called {port.name!r}, as an architecture is" if isinstance(port, Port) else f"is {port!r:.80}"
        raise Usage(f"the port {what}", "Give a weights.Port, with name= where its module has the name of an architecture")
    try:
        trained = Trained(
            moved=partial(moved_keys, groups=groups),
            points=partial(points_moved, groups=groups) if optimizer else lambda parts, entries: (),
            on_manifolds=moves_points if optimizer else lambda parts: False,
        )
        found = converted(file, ARCHITECTURES, arch, curvature, manifolds, trained, progress, port)
        resumption = None
        if optimizer and found.parts.optimizers:
            name = None if isinstance(optimizer, bool) else optimizer
            resumption = resumed(found, file.config or {}, Asked(groups, name, updates_per_step, without_state))
        source = origin(file.root, found.parts, resumption)
        report = {**found.report, **(resumption.reported if resumption else {})}
        begins = found.table.beginnings(source) if found.table else {}
        report |= accounted(found.parts, resumption.reports if resumption else {}, "left out, as was asked", begins)
        if safetensors.metadata_of(file.root):
            report["not_converted"] |= {"__metadata__": f"{NO_USE}; only a .safetensors file has a place for it"}
        report |= {"sha256": hashes(file.path, file.format), "about": dict(about or {})}
    except ConversionError as error:
        raise error.at(file.path) from None
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
        report=report,
        settings=found.settings,
        entries=found.entries,
        plans=resumption.plans if resumption else (),
        source=source,
        given=manifolds,
        port=found.table,
    )


@takes(path=PATH, port=PORT)
def restore(path: str | Path, port: Port | None = None) -> Checkpoint:
    """The checkpoint that `Checkpoint.save` wrote at `path`, bit for bit. port: the one with which it was loaded, if that was a port of
    one's own: the folder has its name and no code.

    Raises Unreadable for a path that is not a converted checkpoint, or a damaged one, Usage for a port that is missing or another one.
    """
    return Checkpoint(**vars(store.read(path, port)))


@takes(checkpoint=Kind(lambda found: isinstance(found, (Checkpoint, str, os.PathLike)), "a Checkpoint, or the path of a saved one"),
       path=PATH, overwrite=TRUTH, port=PORT)  # fmt: skip
def export(checkpoint: Checkpoint | str | Path, path: str | Path, overwrite: bool = False, port: Port | None = None) -> None:
    """Writes a checkpoint, or the one saved at a path, as a torch file like its original: keys, order, ties, wrappers, optimizer.

    A `path` that ends in .safetensors becomes such a file, if the original has nothing but a model's tensors; Usage otherwise.

    Tensors that have not changed are equal to the original's bit for bit. Raises Unmatched for variables or a state of another
    shape or type, NotWritten if `path` exists and `overwrite` is not said, or if it cannot be written. port: as `restore` takes it.

    In several processes each calls this with the same path, as `Checkpoint.save`.
    """
    whole = gathered(checkpoint) if isinstance(checkpoint, Checkpoint) else checkpoint
    written_by_one(lambda: _exported(whole, path, overwrite, port), path)


def _exported(checkpoint: Checkpoint | str | Path, path: str | Path, overwrite: bool, port: Port | None) -> None:
    """`export`, in the process that writes."""
    if not isinstance(checkpoint, Checkpoint):
        require_file(path, overwrite, files_of(checkpoint))
        checkpoint = restore(checkpoint, port)
    try:
        if Path(path).suffix in (".safetensors", ".npz"):
            told = safetensors.metadata_of(checkpoint.source.root) or safetensors.PLAIN
            safetensors.write(Path(path), tensors_by_key(checkpoint, Path(path).suffix), told, overwrite)
        else:
            write(path, safetensors.without_metadata(torch_tree(checkpoint)), overwrite)
    except ConversionError as error:
        raise error.at(path) from None


__all__ = ["Checkpoint", "export", "load", "restore"]
