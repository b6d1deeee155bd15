"""Continues a file's optimizers in JAX, from what the file, the configuration and the caller say of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import jax

from weights.errors import ConversionError, Unmatched, Usage
from weights.files import places
from weights.files.optimizers import Optimizer
from weights.files.sections import Sections
from weights.files.tensors import Tensor
from weights.mapping.conversion import Converted
from weights.mapping.entries import Entry
from weights.optim import engine
from weights.optim.divisions import is_point
from weights.optim.file_scheduler import Timing
from weights.optim.names import Naming, indices
from weights.optim.owners import Groups, owned, reported_place
from weights.optim.plan import Plan, chosen, groups_of
from weights.optim.several import SeveralState, together
from weights.types import Config, Document, Manifolds, ManifoldTree, OptState, Params, Transformation


@dataclass(frozen=True)
class Asked:
    """What the caller says of the optimizers; None for what it does not say.

    groups: keys (or patterns) of each group, and name: the class; both by the optimizer's place, where there are several.
    updates_per_step: updates between two steps of the scheduler. without_state: what parameters without a state are, "trained" or "fixed".
    """

    groups: Groups
    name: str | Mapping[str, str] | None
    updates_per_step: int | None
    without_state: str | None = None

    def class_of(self, own: Optimizer, every: Sequence[Optimizer]) -> str | None:
        """The class of one of the optimizers. Raises Usage for a class without a place among several, and for a place that is not there."""
        if not isinstance(self.name, Mapping):
            if self.name is not None and len(every) > 1:
                more = " ".join(f"--optimizer-class {each.place}={self.name}" for each in every)
                raise Usage(
                    f"the class {self.name} is given, and the file has {len(every)} optimizers", f"Give one of {more} (optimizer={{...}})"
                )
            return self.name
        known = [each.place for each in every]
        for place in self.name:
            if place not in known:
                raise Usage(
                    f"a class is given for {place!r}; the optimizers are {', '.join(known)}", "Correct --optimizer-class (optimizer=...)"
                )
        return self.name.get(own.place)


@dataclass(frozen=True)
class Resumed:
    """A file's optimizers in JAX.

    transformation, state: optax's. plans: how the state of each goes back. unheld: the file's tensors that cannot be recovered from the
    state. reports: by place, what became of each optimizer, as JSON.
    """

    transformation: Transformation
    state: OptState
    plans: tuple[Plan, ...]
    unheld: list[Tensor]
    reports: dict[str, Document]

    @property
    def reported(self) -> Document:
        """The entry of the conversion's report: "optimizer", or "optimizers" by place."""
        return {"optimizers": self.reports} if len(self.reports) > 1 else {"optimizer": next(iter(self.reports.values()))}


def resumed(found: Converted, config: Config, asked: Asked) -> Resumed:
    """The optimizers of a file that has some, going on over the converted parameters. `config` is the configuration as it was given.

    Raises Unmatched or Usage if they do not fit the model, or each other.
    """
    table, parts, entries = found.table, found.parts, found.entries
    every, params, manifolds = parts.optimizers, found.variables["params"], beside(found.manifolds)
    keys = [e.key for e in entries if e.role != "tied"]
    grouped = len(every) == 1 and len(groups_of(every[0].raw)) > 1
    tabled = table.groups(found.settings, keys) if (grouped or len(every) > 1) and table and table.groups else None
    listed = tabled if grouped else None
    naming = Naming(tensors=parts.tensors, prefix=parts.prefix, table=listed, sure=table is not None)
    said = None if len(every) > 1 else table.optimizer(config) if table else config.get("optimizer")
    transformations, states, plans, unheld, reports = {}, {}, [], [], {}
    for own, mine in zip(every, owned(every, entries, naming, asked.groups, _curved(found), _by_place(every, tabled)), strict=True):
        choice = chosen(said, table.code if table else None, asked.class_of(own, every))
        timing = Timing(scheduler=own.scheduler, updates_per_step=asked.updates_per_step, updates=parts.updates)
        try:
            loaded = engine.load(own.raw, choice, params, manifolds=manifolds, entries=entries, owned=mine, timing=timing,
                                 without_state=asked.without_state)  # fmt: skip
        except engine.NotTranslated as error:
            others = [each.place for each in every if each is not own] + [places.written(at) for at in parts.others]
            choose = f", or only another one: --optimizer-at {' or '.join(others)} (optimizer_at=...)" if others else ""
            raise reported_place(every, own.place, Unmatched(error.cause, error.remedy + choose)) from None
        except (Unmatched, Usage) as error:
            raise reported_place(every, own.place, error) from None
        transformations[own.place], states[own.place] = loaded[:2]
        plan = replace(loaded[2], at=own.at)
        plans.append(plan)
        unheld += engine.unheld(own.raw, plan, loaded[1], entries)
        reports[own.place] = _reported(plan, params, manifolds)
    state = next(iter(states.values())) if len(states) == 1 else SeveralState(states)
    confine = None if table is None else table.confining(found.model)
    return Resumed(
        transformation=together(transformations, confine), state=state, plans=tuple(plans), unheld=unheld, reports=reports,
    )  # fmt: skip


def _by_place(every: Sequence[Optimizer], tabled: list[list[str]] | None) -> dict[str, list[list[str]]]:
    """The architecture's groups of several optimizers, one after the other; empty where those of the file have other sizes."""
    sizes = {own.place: [len(listed) for listed in indices(groups_of(own.raw))] for own in every}
    if tabled is None or len(every) < 2 or [n for each in sizes.values() for n in each] != list(map(len, tabled)):
        return {}
    left = iter(tabled)
    return {place: list(itertools.islice(left, len(each))) for place, each in sizes.items()}


def _reported(plan: Plan, params: Params, manifolds: Callable[[Params], ManifoldTree] | None) -> Document:
    report: Document = {"name": plan.table, "counts": plan.dialects, "indices_by": plan.source, "without_state": plan.still}
    if plan.guessed:
        few = ", ".join(plan.still[:4]) + (f" and {len(plan.still) - 4} more" if len(plan.still) > 4 else "")
        report["assumed"] = (
            f"{few}: without a state, taken as fixed. If trained, and only without a gradient so far, torch moves them from their first "
            "one on: give without_state='trained' (--without-state trained), else 'fixed'"
        )
    if plan.carried:
        report["carried"] = plan.carried
    if plan.timing is not None:
        report["scheduler"] = plan.timing
    if defects := plan.translation.defects(params, manifolds):
        report["defects"] = defects
    return report


def _curved(found: Converted) -> set[str]:
    """The keys of the parameters on manifolds other than flat space."""
    from port_jax.optim.trees import match_manifolds

    params = found.variables["params"]
    if found.manifolds is None or not params:
        return set()
    paths = [f"params/{jax.tree_util.keystr(at, simple=True, separator='/')}" for at, _ in jax.tree.leaves_with_path(params)]
    on = dict(zip(paths, match_manifolds(found.manifolds, params), strict=True))
    return {e.key for e in found.entries if e.role == "parameter" and not on[str(e.path)].flat}


def moved_keys(parts: Sections, entries: Sequence[Entry], curved: Collection[str], groups: Groups = None) -> set[str]:
    """The keys that an optimizer has state for, as far as the file and the caller's groups tell which parameter is which."""
    return {key for key, state in _by_key(parts, entries, groups, curved).items() if engine.begun(state)}


def points_moved(parts: Sections, entries: Sequence[Entry], groups: Groups = None) -> set[str]:
    """The keys whose second moment is that of a squared norm along the last axis, as that of a point of a manifold in geoopt's
    Riemannian Adam, as far as the file and the caller's groups tell which parameter is which."""
    shapes = {e.key: e.shape for e in entries}  # the state of another parameter is no point, but an error that is raised later
    states = _by_key(parts, entries, groups) if moves_points(parts) else {}
    return {key for key, state in states.items() if is_point(state, shapes.get(key))}


def _by_key(parts: Sections, entries: Sequence[Entry], groups: Groups, curved: Collection[str] | None = None) -> Mapping[str, Mapping]:
    try:
        each = owned(parts.optimizers, entries, Naming(parts.tensors, parts.prefix), groups, curved) if parts.optimizers else []
    except ConversionError:
        return {}
    states = [own.raw["state"] for own in parts.optimizers]
    return {key: state.get(index) or {} for mine, state in zip(each, states) for index, key in mine.keys.items()}


def moves_points(parts: Sections) -> bool:
    """Whether the file has an optimizer that moves points on manifolds, by its settings alone."""
    from port_jax.optim.from_torch import recognition

    return any(recognition.moves_points(groups_of(own.raw)) for own in parts.optimizers)


def beside(manifolds: Manifolds) -> Callable[[Params], ManifoldTree] | None:
    """Manifolds as the optimizers take them: a callable from the parameters to the tree beside them."""
    if manifolds is None:
        return None
    return manifolds if callable(manifolds) else lambda params: manifolds


__all__ = ["Asked", "Resumed", "beside", "moved_keys", "moves_points", "points_moved", "resumed"]
