"""The way back: a section, and its scheduler's state, after the updates that a transformation's state has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from port_jax.optim.from_torch import dialects, numbers
from port_jax.optim.from_torch.dialects import Dialect
from port_jax.optim.from_torch.groups import Group, GroupsState
from port_jax.optim.from_torch.sections import Entry, Section, Settings
from port_jax.optim.from_torch.translation import Translation
from port_jax.optim.schedules import Schedule

__all__ = ["held", "in_form", "written"]

Rates = tuple[Mapping[str, Any] | None, list[dict[str, Any]]]


def written(section: Section, translation: Translation, state: Any, scheduler: Mapping[str, Any] | None = None) -> tuple[Section, Any]:
    """The section and the scheduler's state with the numbers of `state`.

    section, scheduler: those from which the translation was made. Their entries and settings may be of any type: what has not changed is
    passed on unchanged, and counts and rates keep the form that they had (`in_form`). Buffers are the arrays of the state, where numbers
    that are equal along a point's axes occur once; the caller repeats them.

    Raises ValueError if parameters that share a counter have seen different numbers of gradients.
    """
    groups, entries = [], []
    for number, (settings, members, old) in enumerate(zip(*section, strict=True)):
        place = 0 if translation.kind.search else number
        group = translation.groups[place]
        counts, buffers, steps = held(translation, state, place)
        moved = set(group.members)
        moving = [path for path in members if path in moved]
        new = dict(old)
        for path in moving:
            new[path] = _entry(group, old.get(path) or {}, counts[path], {name: tree[path] for name, tree in buffers.items()})
        entries.append(new)
        groups.append(_counted(group, settings, number, [counts[path] for path in moving], steps))
    scheduler, changes = _rates(translation, state, scheduler)
    for number, change in enumerate(changes):
        groups[number] |= {name: in_form(groups[number].get(name), value) for name, value in change.items()}
    return Section(groups, section.members, entries), scheduler


def held(translation: Translation, state: Any, number: int) -> tuple[dict[str, int], dict[str, dict[str, Any]], int]:
    """What the state contains for a group.

    The counts by path, without what `Dialect.turn` adds; the buffers by torch's names and path; and the number of updates made.
    """
    group, inner = translation.groups[number], state.groups[number] if isinstance(state, GroupsState) else state
    count, trees = numbers.unpacked(group.kind, inner)
    buffers = {name: numbers.by_path(tree) for name, tree in trees.items()}
    if group.kind.search:
        return dict.fromkeys(group.members, int(np.asarray(count))), buffers, int(np.asarray(count))
    counts, turn = numbers.by_path(count), group.dialect.turn
    seen = {path: int(np.asarray(counts[path])) - turn * place for place, path in enumerate(group.members)}
    return seen, buffers, int(np.asarray(inner.step))


def in_form(old: Any, value: Any) -> Any:
    """A number in the form of the old one: an array of the same type, a float, a pair as the same sequence; else unchanged."""
    if isinstance(old, np.ndarray | np.generic):
        return np.asarray(value, old.dtype).reshape(old.shape)
    if isinstance(old, tuple | list):
        return type(old)(value)
    return float(value) if isinstance(old, float) else value


def _entry(group: Group, old: Entry, count: int, buffers: Mapping[str, Any]) -> dict[str, Any]:
    """torch's state of a parameter; empty if the parameter has not been trained."""
    if not old and not count and not any(np.any(np.asarray(value)) for value in buffers.values()):
        return {}
    new = {**old, **buffers}
    if group.dialect is Dialect.PARAMETER and ("step" in old or not old):
        new["step"] = in_form(old.get("step", np.zeros((), np.float32)), count)
    elif not old and (group.dialect is Dialect.DOUBLE or group.kind.zero_beside):
        new["step"] = 0
    return new


def _counted(group: Group, settings: Settings, number: int, counts: Sequence[int], steps: int) -> dict[str, Any]:
    """The group's settings, with its own counter if it has one."""
    new = dict(settings)
    if group.dialect.by_group and counts:
        # in a descent the counts begin with a parameter's first gradient, the group's with the first update
        total = steps if group.kind.sgd else dialects.together(number, counts)
        if total or "step" in settings:
            new["step"] = in_form(settings.get("step", 0), total)
    return new


def _rates(translation: Translation, state: Any, scheduler: Mapping[str, Any] | None) -> Rates:
    """The scheduler's state after the updates, and the changes in each group; the same state and no changes if it has not moved."""
    told = translation.scheduler
    if told is None or scheduler is None:
        return scheduler, []
    if isinstance(state, GroupsState) and any(state.plateaus):
        return _by_metric(translation, state, scheduler)
    step = int(np.asarray(state.step)) + (0 if isinstance(state, GroupsState) else translation.ahead)
    done = step // translation.per_step
    if done == translation.groups[0].schedule.done:
        return scheduler, []
    changes: list[dict[str, Any]] = []
    for group in translation.groups:
        rate, momentum, settings = group.schedule.rate, group.schedule.momentum, group.settings
        change = {"lr": rate.exactly(done) if isinstance(rate, Schedule) else settings["lr"]}
        if momentum is not None:
            now = momentum.exactly(done)
            change |= {"betas": (now, settings["betas"][1])} if "betas" in settings else {"momentum": now}
        changes.append(change)
    return _stepped(scheduler, told, done, [change["lr"] for change in changes]), changes


def _by_metric(translation: Translation, state: GroupsState, scheduler: Mapping[str, Any]) -> Rates:
    now, begun = state.plateaus[0], translation.groups[0].schedule.plateau
    assert now is not None
    assert begun is not None
    if all(np.array_equal(a, b) for a, b in zip(now, begun)):
        return scheduler, []
    rates = [float(plateau.rate) for plateau in state.plateaus if plateau is not None]
    counters = {"best": float(now.best), "num_bad_epochs": int(now.bad), "cooldown_counter": int(now.cooldown), "_last_lr": rates}
    return {**scheduler, **{key: value for key, value in counters.items() if key in scheduler}}, [{"lr": rate} for rate in rates]


def _stepped(scheduler: Mapping[str, Any], told: Mapping[str, Any], done: int, rates: Sequence[float]) -> dict[str, Any]:
    """The scheduler's state after `done` steps. told: the same state in plain numbers."""
    new = dict(scheduler)
    if "_schedulers" in told:
        parts = list(zip(scheduler["_schedulers"], told["_schedulers"], strict=True))
        starts = [0, *told["_milestones"]] if "_milestones" in told else [0] * len(parts)
        ends = [*starts[1:], None] if "_milestones" in told else [None] * len(parts)
        new["_schedulers"] = [
            inner if done < start else _stepped(inner, plainly, (done if end is None else min(done, end - 1)) - start, rates)
            for (inner, plainly), start, end in zip(parts, starts, ends, strict=True)
        ]
    if "last_epoch" in told:
        if "_step_count" in told:
            new["_step_count"] = told["_step_count"] + done - max(told["last_epoch"], 0)
        new["last_epoch"] = done
    if "_last_lr" in told:
        new["_last_lr"] = list(rates)
    return new
