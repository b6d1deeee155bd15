"""A file's optimizer as an optax transformation and its state: keys and layouts around the pipeline of `port_jax.optim.from_torch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from weights.errors import ConversionError, Unmatched
from weights.files.tensors import Tensor
from weights.mapping.entries import Entry
from weights.mapping.leaves import leaf_of
from weights.optim.file_scheduler import WHERE, Timing, scheduled
from weights.optim.forms import plain, unwrapped_state
from weights.optim.layouts import REMEDY, WITHOUT, forward_shape, last_axis, path_of, summed_axes
from weights.optim.moments import Moments
from weights.optim.owners import Owned
from weights.optim.plan import Choice, Manifolds, Plan, begun, build
from weights.optim.saving import save, unheld
from weights.types import OptState, Params, Transformation

if TYPE_CHECKING:
    from port_jax.optim.from_torch.kinds import Kind
    from port_jax.optim.from_torch.sections import Section

_DAMAGE = (TypeError, KeyError, IndexError, OverflowError, ZeroDivisionError)
"""What settings that torch does not write may lead to."""


class NotTranslated(Unmatched):
    """An optimizer of a class that has no translation."""


def load(raw: Mapping, choice: Choice, params: Params, *, manifolds: Manifolds, entries: Sequence[Entry], owned: Owned,
         timing: Timing, without_state: str | None = None) -> tuple[Transformation, OptState, Plan]:  # fmt: skip
    """The transformation of an optimizer's section `raw`, its state over the converted `params`, and the plan. owned: its parameters.
    without_state: whether parameters that have no state where others have are "trained", and move from their first gradient as in torch, or
    "fixed"; None takes them as fixed.

    Raises Unmatched, which names the key, for settings, indices and numbers that do not fit the model.
    """
    from port_jax.optim.from_torch.kinds import Untranslated
    from port_jax.optim.from_torch.recognition import recognise
    from port_jax.optim.from_torch.sections import Section
    from port_jax.optim.from_torch.settings import SettingError, check_values, unread
    from port_jax.optim.from_torch.translation import flat_paths

    groups, states = raw["param_groups"], raw["state"]
    listed, keys = owned.listed, owned.keys
    if stray := [index for index in states if index not in keys]:
        raise Unmatched(f"the optimizer has state for index {stray[0]}, which is in no group", "Save optimizer.state_dict()")
    by_key = {entry.key: entry for entry in entries}
    found = {index: by_key[keys[index]] for indexes in listed for index in indexes}
    numbers = {index: _numbers(index, found[index], states.get(index) or {}) for index in found}
    everything = [plain({name: value for name, value in group.items() if name != "params"}) for group in groups]
    settings = [{name: value for name, value in group.items() if _holds(value)} for group in everything]
    trained = [{path_of(found[i]): numbers[i] for i in indexes if found[i].role == "parameter"} for indexes in listed]
    section = Section(settings, [list(own) for own in trained], trained)
    try:
        kind = recognise(section._replace(groups=everything), flat_paths(params, manifolds), choice.name, choice.said, choice.code)
        check_values(kind, everything)
        carried = unread(kind, everything, named=choice.name is not None)
        transformation, state, plan = _translated(kind, params, manifolds, section, list(found.values()), timing, without_state)
    except ConversionError:
        raise
    except Untranslated as error:
        raise NotTranslated(str(error), "Convert without its state: --no-optimizer (optimizer=False)") from None
    except SettingError as error:
        remedy = error.remedy + (f", --optimizer-class {error.named}" if error.named else "")
        raise Unmatched(f"the optimizer's {error.cause}", f"{remedy[0].upper()}{remedy[1:]}, {WITHOUT}") from None
    except (ValueError, *_DAMAGE) as error:
        raise Unmatched(f"the optimizer does not fit the model: {error}", REMEDY) from None
    return transformation, state, replace(plan, keys=dict(keys), listed=listed, source=owned.source, carried=carried)


def _translated(kind: Kind, params: Params, manifolds: Manifolds, section: Section, entries: Sequence[Entry],
                timing: Timing, without_state: str | None) -> tuple[Transformation, OptState, Plan]:  # fmt: skip
    """The pipeline; the plan without what it has from the file."""
    from port_jax.optim.from_torch.translation import counted, resume, translate

    section, still = (section, []) if without_state == "trained" else _moving(kind, section)
    axes = _summed(kind, section, entries)
    tallies = counted(kind, section)
    translation = translate(kind, section, tallies, last_axes=axes)
    timed = None
    if timing.scheduler is not None:
        timed = scheduled(timing.scheduler, max(tally.steps for tally in tallies) or timing.updates or 0, timing.updates_per_step)
        if not timed.problem:
            try:
                translation = translate(kind, section, tallies, timed.state, per_step=timed.per_step or 1, last_axes=axes)
            except ValueError as error:
                timed = replace(timed, problem=f"{error}; pass what is missing to {WHERE}")
            except _DAMAGE as error:
                timed = replace(
                    timed, problem=f"its settings are not those of a scheduler of torch ({type(error).__name__}); pass it to {WHERE}"
                )
    transformation, state = resume(translation, tallies, section, params, manifolds, leaf_of)
    plan = Plan(
        table=kind.name,
        dialects=[group.dialect.value for group in translation.groups],
        keys={},
        listed=[],
        parts=[list(group.members) for group in translation.groups],
        extras=[group.extra for group in translation.groups],
        still=still,
        guessed=bool(still) and without_state is None,
        groups=[dict(group) for group in section.groups],
        axes=axes,
        scheduler=None if translation.scheduler is None else dict(translation.scheduler),
        per_step=translation.per_step,
        ahead=translation.ahead,
        timing=None if timed is None else timed.reported(),
    )
    return transformation, state, plan


def _summed(kind: Kind, section: Section, entries: Sequence[Entry]) -> dict[str, Any]:
    """By path, the axes in JAX that second moments are summed over, where it is not the last alone."""
    if not kind.by_rows:
        return {}
    moved = [entry for entry in entries if entry.path]
    if kind.code != "hypll":
        return {path_of(e): axis for e in moved if (axis := last_axis(e)) is not None}
    states = section.everything
    found = {path_of(e): summed_axes(e, states.get(path_of(e), {}).get("exp_avg_sq")) for e in moved}
    shapes = {path_of(e): forward_shape(e) for e in moved}
    return {path: axes for path, axes in found.items() if axes != [len(shapes[path]) - 1] and shapes[path]}


def _moving(kind: Kind, section: Section) -> tuple[Section, list[str]]:
    """The section without parameters that have no state where others have, and their paths: they are taken as fixed in training."""
    from port_jax.optim.from_torch.translation import settled

    fresh = not any(begun(entry) for entry in section.everything.values())
    members, still = [], []
    for settings, own in zip(section.groups, section.entries, strict=True):
        kept = not fresh and kind.keeps_buffers(settled(kind, settings))
        members.append([path for path, entry in own.items() if begun(entry) or not kept])
        still += [path for path, entry in own.items() if kept and not begun(entry)]
    entries = [{path: own[path] for path in paths} for own, paths in zip(section.entries, members, strict=True)]
    return section._replace(members=members, entries=entries), still


def _numbers(index: int, entry: Entry, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the optimizer keeps beside a parameter, in the parameter's layout here; without what is None."""
    from port_jax.optim.from_torch.kinds import TENSORS

    if entry.role != "parameter":
        if not begun(state):
            return {}
        raise Unmatched(
            f"the optimizer has state for {entry.key!r}, which is fixed in this model",
            "Set learnable_curvature in the configuration if it was trained",
        )
    stored = {name: value for name, value in unwrapped_state(state).items() if value is not None}
    for name, value in stored.items():
        if name in TENSORS and isinstance(value, Tensor) and value.shape != entry.shape:
            raise Unmatched(f"the optimizer's {name} at index {index} has shape {value.shape}; {entry.key!r} has {entry.shape}",
                            "The order of the parameters differs: give groups=[[...]] (--group)")  # fmt: skip
    return Moments(entry, stored | ({"step": plain(stored["step"])} if "step" in stored else {}))


def _holds(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, list, tuple, dict, Tensor, np.generic))


__all__ = ["Choice", "NotTranslated", "Plan", "Timing", "begun", "build", "load", "save", "unheld"]
