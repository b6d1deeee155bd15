"""A converted checkpoint, and how a torch file becomes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from weights import convert, geometry, points, sections
from weights import source as sources
from weights.architecture import Architecture, Found
from weights.config import read_config
from weights.convert import Entry
from weights.errors import ConversionError, Unmatched, Usage
from weights.models import ARCHITECTURES
from weights.models import tree as tree_model
from weights.optim import engine as optimizers
from weights.optim import names
from weights.reader import read
from weights.sections import Sections
from weights.settings import Settings
from weights.source import Source
from weights.tensors import buffer

TREE = "tree"


@dataclass(frozen=True)
class Checkpoint:
    """A model in JAX, with everything that leads back to torch.

    arch: the architecture's name. model: the flax module (None for "tree"). variables: what `model.apply` takes.
    optimizer, opt_state: an optax transformation over `variables["params"]` and its state, or None. constants: tensors
    of the file that no variable holds, by key. manifolds: a tree beside the parameters, or a callable from them to it.
    config, epoch: as the file or the configuration has them. report: what became of what, JSON-able.

    Arrays are jax's where jax keeps their type; float64 without x64 stays numpy, so that nothing is rounded. To export
    a checkpoint that was trained on: `dataclasses.replace(ckpt, variables=..., opt_state=...)`.
    """

    arch: str
    model: Any
    variables: dict[str, Any]
    optimizer: Any
    opt_state: Any
    constants: dict[str, np.ndarray]
    manifolds: Any
    config: dict[str, Any]
    epoch: int | None
    report: dict[str, Any]
    settings: dict[str, Any] = field(repr=False)
    entries: list[Entry] = field(repr=False)
    plan: optimizers.Plan | None = field(repr=False)
    source: Source = field(repr=False)
    given: Any = field(repr=False, default=None)
    """The manifolds that the caller named."""

    def save(self, path: str | Path) -> None:
        """Writes a .safetensors or .npz file if `path` ends so, else a folder; atomically, for `weights.restore`."""
        from weights.store import save

        save(self, path)

    def export(self, path: str | Path) -> None:
        """Writes the torch file back, with the variables and the optimizer state as they are now."""
        from weights.exporter import export

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
        parts = sections.split(file.root)
        settings_given = {"curvature": curvature}
        stated = read_config(config, parts.config)
        table, parts = _architecture(arch, parts, stated or {})
        settings = Settings(stated, settings_given)
        model, entries = _matched(table, parts, settings)
        total = len(parts.tensors)
        leaf = _counting(progress, entries)
        variables, constants = convert.to_flax(parts.tensors, entries, leaf)
        variables.setdefault("params", {})
        moved = _manifolds(table, model, parts, entries, variables["params"], manifolds, bool(optimizer))
        points.check(moved, variables["params"], entries)
        transformation = state = plan = None
        if optimizer and parts.optimizer is not None:
            given = (groups, optimizer if isinstance(optimizer, str) else None, updates_per_step)
            transformation, state, plan = _optimizer(table, parts, settings, stated or {}, variables["params"], entries, moved, given)
        kept = _kept(file.root, parts, plan, state, entries)
        origin = Source(file.root, parts.prefix, parts.model_at, parts.optimizer_at, kept)
        report = _report(path, file.format, table, parts, settings, entries, plan, total)
    except ConversionError as error:
        raise error.at(path) from None
    return Checkpoint(table.name if table else TREE, model, variables, transformation, state, constants, moved, stated or {}, parts.epoch,
                      report, settings.values, entries, plan, origin, manifolds)  # fmt: skip


def leaf_of(array: np.ndarray) -> Any:
    """A jax array where jax keeps the type, else a numpy array: nothing is rounded."""
    if jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype:
        if not array.flags.c_contiguous or array.ctypes.data % 64:  # which jax would copy, and keep the original for a while
            aligned = buffer(array.nbytes).view(array.dtype).reshape(array.shape)
            aligned[...] = array
            array = aligned
        return jax.device_put(array).block_until_ready()
    return np.array(array)


def _architecture(name: str | None, parts: Sections, config: Mapping[str, Any]) -> tuple[Architecture | None, Sections]:
    name = name or (config.get("arch") if isinstance(config.get("arch"), str) else None)
    if name == TREE:
        return None, parts
    if name is not None:
        if name.lower() not in ARCHITECTURES:
            raise Usage(f"no architecture is called {name!r}", f"There are {', '.join(ARCHITECTURES)} and {TREE}")
        table = ARCHITECTURES[name.lower()]
        if table.recognise(Found(parts.tensors, config)):
            return table, parts
        deeper = sections.without_first(parts)
        if deeper is not None and table.recognise(Found(deeper.tensors, config)):
            return table, deeper
        raise Unmatched(
            f"the keys ({', '.join(list(parts.tensors)[:3])}, ...) are not those of {table.name}",
            "Check arch and the file; arch='tree' takes any keys",
        )
    for candidate in (parts, sections.without_first(parts)):
        fitting = [t for t in ARCHITECTURES.values() if candidate is not None and t.recognise(Found(candidate.tensors, config))]
        if len(fitting) > 1:
            raise Usage(f"the keys fit {', '.join(t.name for t in fitting)}", "Say which by --arch (arch=...)")
        if fitting and candidate is not None:
            return fitting[0], candidate
    raise Unmatched(
        f"the keys ({', '.join(list(parts.tensors)[:3])}, ...) are those of none of {', '.join(ARCHITECTURES)}",
        "Say --arch tree (arch='tree') to convert them as a tree of parameters",
    )


def _matched(table: Architecture | None, parts: Sections, settings: Settings) -> tuple[Any, list[Entry]]:
    if table is None:
        if settings.given.get("curvature") is not None:
            raise Usage("a tree of parameters has no curvature of its own", "Give it with manifolds={key: PoincareBall(...)}")
        return None, convert.tie_repeats(parts.tensors, tree_model.entries(parts.tensors, _moved(parts)))
    table.settle(Found(parts.tensors, settings.config), settings)
    if settings.given.get("curvature") is not None and "curvature" not in settings.values:
        raise Usage(f"the curvatures of {table.name} are in the file", "Leave --curvature out (curvature=...)")
    rules = table.rules(settings.values)
    try:
        model = table.build(settings.values)
        shapes = jax.eval_shape(model.init, jax.random.key(0), *table.inputs(settings.values))
    except (ValueError, TypeError) as error:
        raise Unmatched(f"the settings make no {table.name}: {error}", "Check the configuration") from None
    targets = {path: tuple(s.shape) for path, s in convert.flatten(shapes).items()}  # pyright: ignore[reportAttributeAccessIssue]
    return model, convert.plan(parts.tensors, rules, targets)


def _moved(parts: Sections) -> set[str]:
    """The keys that the optimizer has state for, as far as one group in the state_dict's order tells; all of them with names."""
    raw = parts.optimizer
    if raw is None:
        return set()
    every = convert.tie_repeats(parts.tensors, tree_model.entries(parts.tensors, parts.tensors))
    try:
        listed = names.indices(raw["param_groups"])
        keys, _ = names.keys_by_index(raw["param_groups"], listed, every, parts.tensors, parts.prefix, None, None)
    except ConversionError:
        return set()
    return {key for index, key in keys.items() if optimizers.begun(raw["state"].get(index))}


def _manifolds(table: Architecture | None, model: Any, parts: Sections, entries: Sequence[Entry], params: dict,
               given: Mapping[str, Any] | None, optimizer: bool) -> Any:  # fmt: skip
    if table is not None:
        if given is not None:
            raise Usage(f"manifolds is for arch='tree'; {table.name} has its own", "Leave it out")
        return getattr(model, "manifolds", None)
    keys = {str(e.path).removeprefix("params/"): e.key for e in entries if e.role == "parameter"}
    if given is None and optimizer and parts.optimizer is not None:
        raw = parts.optimizer
        flat = not optimizers.choose(raw, None).riemannian
        if not flat and not any(t.manifold is not None for t in parts.tensors.values()):
            raise Usage("the optimizer is Riemannian and the file does not say which parameters lie on which manifold",
                        "Give manifolds={key: PoincareBall(...)} (--manifold key=PoincareBall:0.7); Euclidean() where flat")  # fmt: skip
    return geometry.beside(keys, given, parts.tensors, keys)


def _optimizer(table: Architecture | None, parts: Sections, settings: Settings, config: Mapping[str, Any], params: dict,
               entries: Sequence[Entry], moved: Any,
               given: tuple[Sequence[Sequence[str]] | None, str | None, int | None]) -> tuple[Any, Any, optimizers.Plan]:  # fmt: skip
    raw, (groups, name, updates_per_step) = parts.optimizer, given
    assert raw is not None
    said = (table.optimizer(config) if table else None) or config.get("optimizer")
    chosen = optimizers.choose(raw, said, table.name if table else None, name)
    keys = [e.key for e in entries if e.role != "tied"]
    listed = table.groups(settings.values, keys) if table and table.groups and len(raw["param_groups"]) > 1 else None
    return optimizers.load(
        raw, chosen, params, entries, parts.tensors, parts.prefix, _callable(moved), listed, groups, parts.scheduler, updates_per_step,
        parts.updates,
    )  # fmt: skip


def _callable(moved: Any) -> Callable[[Any], Any] | None:
    if moved is None:
        return None
    return moved if callable(moved) else lambda params: moved


def _kept(root: object, parts: Sections, plan: optimizers.Plan | None, state: Any, entries: Sequence[Entry]) -> dict[int, np.ndarray]:
    """The tensors that neither the model's keys nor the optimizer's state account for."""
    accounted = {id(t) for t in parts.tensors.values()}
    if parts.optimizer is not None and plan is not None:
        accounted |= {id(t) for t in sources.tensors_of(parts.optimizer["state"])}
        accounted -= {id(t) for t in optimizers.unheld(parts.optimizer, plan, state, entries)}
    places = {t.place for t in parts.tensors.values()}
    every = enumerate(sources.tensors_of(root))
    return {n: np.array(t.array()) for n, t in every if id(t) not in accounted and t.place not in places}


def _counting(progress: Callable[[str, int, int], None] | None, entries: Sequence[Entry]) -> Callable[[np.ndarray], Any]:
    if progress is None:
        return leaf_of
    keys = iter([e.key for e in entries if e.role == "parameter"])
    total = sum(e.role == "parameter" for e in entries)
    done = 0

    def leaf(array: np.ndarray) -> Any:
        nonlocal done
        done += 1
        progress(next(keys), done, total)
        return leaf_of(array)

    return leaf


def _report(path: Path, form: str, table: Architecture | None, parts: Sections, settings: Settings, entries: Sequence[Entry],
            plan: optimizers.Plan | None, total: int) -> dict[str, Any]:  # fmt: skip
    report: dict[str, Any] = {
        "file": path.name,
        "format": form,
        "arch": table.name if table else TREE,
        "settings": settings.reported(),
        "tensors": [
            {"key": e.key, "shape": list(e.shape), "dtype": e.dtype, "becomes": e.path or e.tied or "constant",
             "role": e.role, "layout": e.layout.name}
            for e in entries
        ],
        "prefix": parts.prefix,
        "carried": list(parts.extras),
        "count": total,
    }  # fmt: skip
    wide = [e.key for e in entries if e.dtype == "float64" and e.role == "parameter"]
    if wide and not jax.config.read("jax_enable_x64"):
        report["note"] = f"{len(wide)} float64 tensors stay numpy arrays; jax computes with them in float32 until jax_enable_x64 is set"
    if plan is not None:
        report["optimizer"] = {
            "name": plan.table,
            "counts": plan.dialects,
            "indices_by": plan.source,
            "without_state": plan.still,
        }
        if plan.timing is not None:
            report["optimizer"]["scheduler"] = plan.timing
    return report


__all__ = ["TREE", "Checkpoint", "leaf_of", "load"]
