"""Continues a file's optimizer in JAX, from what the file, the configuration and the caller say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from weights.errors import ConversionError
from weights.files.sections import Sections
from weights.files.tensors import Tensor
from weights.mapping.conversion import Converted
from weights.mapping.entries import Entry
from weights.optim import engine, names
from weights.optim.file_scheduler import Timing
from weights.optim.names import Naming
from weights.optim.plan import Plan, chosen, groups_of
from weights.types import Config, Document, Manifolds, ManifoldTree, OptState, Params, Transformation


@dataclass(frozen=True)
class Asked:
    """What the caller says of the optimizer; None for what it does not say.

    groups: keys (or patterns) of each group. name: the class. updates_per_step: updates between two steps of the scheduler.
    """

    groups: Sequence[Sequence[str]] | None
    name: str | None
    updates_per_step: int | None


@dataclass(frozen=True)
class Resumed:
    """A file's optimizer in JAX.

    transformation, state: optax's. plan: how the state goes back. unheld: the file's tensors that cannot be
    recovered from the state. report: what became of the optimizer, as JSON.
    """

    transformation: Transformation
    state: OptState
    plan: Plan
    unheld: list[Tensor]
    report: Document


def resumed(found: Converted, config: Config, asked: Asked) -> Resumed:
    """The optimizer of a file that has one, going on over the converted parameters. `config` is the configuration as it was given.

    Raises Unmatched or Usage if it does not fit the model.
    """
    table, parts, entries = found.table, found.parts, found.entries
    raw = parts.optimizer
    assert raw is not None
    groups = groups_of(raw)
    said = table.optimizer(config) if table else config.get("optimizer")
    choice = chosen(said, table.code if table else None, asked.name)
    keys = [e.key for e in entries if e.role != "tied"]
    listed = table.groups(found.settings, keys) if table and table.groups and len(groups) > 1 else None
    transformation, state, plan = engine.load(
        raw,
        choice,
        found.variables["params"],
        manifolds=beside(found.manifolds),
        entries=entries,
        naming=Naming(tensors=parts.tensors, prefix=parts.prefix, table=listed, given=asked.groups),
        timing=Timing(scheduler=parts.scheduler, updates_per_step=asked.updates_per_step, updates=parts.updates),
    )
    unheld = engine.unheld(raw, plan, state, entries)
    report = {"name": plan.table, "counts": plan.dialects, "indices_by": plan.source, "without_state": plan.still}
    if plan.timing is not None:
        report["scheduler"] = plan.timing
    if defects := plan.translation.defects(found.variables["params"], beside(found.manifolds)):
        report["defects"] = defects
    return Resumed(transformation=transformation, state=state, plan=plan, unheld=unheld, report=report)


def moved_keys(parts: Sections, entries: Sequence[Entry]) -> set[str]:
    """The keys that the optimizer has state for, as far as one group in the state_dict's order tells; all of them with names."""
    return {key for key, state in _by_key(parts, entries).items() if engine.begun(state)}


def points_moved(parts: Sections, entries: Sequence[Entry]) -> set[str]:
    """The keys whose second moment is that of a squared norm along the last axis, as that of a point of a manifold in geoopt's
    Riemannian Adam, as far as the file itself tells which parameter is which."""
    from port_jax.optim.from_torch.recognition import summed_along

    if not moves_points(parts):
        return set()
    found = set()
    for key, state in _by_key(parts, entries).items():
        first, second = (state.get(name) for name in ("exp_avg", "exp_avg_sq"))
        if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
            continue
        if len(first.shape) and first.shape == second.shape and summed_along(first.array(), second.array(), -1):
            found.add(key)
    return found


def _by_key(parts: Sections, entries: Sequence[Entry]) -> Mapping[str, Mapping]:
    raw = parts.optimizer
    if raw is None:
        return {}
    try:
        listed = names.indices(raw["param_groups"])
        keys, _ = names.keys_by_index(raw["param_groups"], listed, entries, Naming(parts.tensors, parts.prefix))
    except ConversionError:
        return {}
    return {key: raw["state"].get(index) or {} for index, key in keys.items()}


def moves_points(parts: Sections) -> bool:
    """Whether the file has an optimizer that moves points on manifolds, by its settings alone."""
    from port_jax.optim.from_torch import recognition

    return parts.optimizer is not None and recognition.moves_points(groups_of(parts.optimizer))


def beside(manifolds: Manifolds) -> Callable[[Params], ManifoldTree] | None:
    """Manifolds as the optimizers take them: a callable from the parameters to the tree beside them."""
    if manifolds is None:
        return None
    return manifolds if callable(manifolds) else lambda params: manifolds


__all__ = ["Asked", "Resumed", "beside", "moved_keys", "moves_points", "points_moved", "resumed"]
