"""The way back: a file's optimizer section with the state as it stands now, in the file's dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.files.tensors import Tensor, from_array, same_bits
from weights.mapping.entries import Entry, flatten, inverse
from weights.optim import counts, schedule
from weights.optim.plan import Plan, forward_shape, path_of


def save(raw: Mapping, plan: Plan, state: Any, entries: Sequence[Entry], kept: Mapping[int, np.ndarray],
         scheduler: Any = None) -> tuple[dict, Any]:  # fmt: skip
    """The optimizer's section and the scheduler's. `kept`: tensors that no state holds, see `uneven`, by id."""
    by_key = {entry.key: entry for entry in entries}
    new = {**raw, "state": {}, "param_groups": []}
    written: dict[int, dict] = {}
    searched = plan.table == "RiemannianLineSearch"  # one state, whatever the groups
    for number, (group, indexes) in enumerate(zip(raw["param_groups"], plan.listed)):
        held = 0 if searched else number
        count, values = _held(plan, state, held)
        tally = {p: int(np.asarray(n)) for p, n in flatten(count).items() if hasattr(n, "dtype")} if isinstance(count, dict) else {}
        own: dict[int, int] = {}
        for index in indexes:
            entry = by_key[plan.keys[index]]
            old = raw["state"].get(index, {})
            path = path_of(entry) if entry.path else ""
            if path not in plan.parts[held]:
                written[index] = {name: from_array(kept[id(value)]) if id(value) in kept else value for name, value in old.items()}
                continue
            own[index] = int(np.asarray(count)) if searched else tally.get(path, 0)
            untouched = not old and not own[index] and not any(np.any(np.asarray(v[path])) for v in values.values())
            written[index] = {} if untouched else _written(old, entry, path, values, plan, held, own[index], kept)
        new["param_groups"].append(_with_count(group, plan.dialects[held], own, number, raw))
    order = [*raw["state"], *sorted(i for i in written if i not in raw["state"] and written[i])]
    new["state"] = {i: written.get(i, {}) for i in order}
    for group in new["param_groups"]:  # a learning rate may be a tensor
        group.update({name: from_array(kept[id(value)]) for name, value in group.items() if id(value) in kept})
    timed, changes = schedule.advanced(scheduler, plan, state)
    if changes is not None:
        new["param_groups"] = schedule.with_changes(new["param_groups"], changes)
    return new, timed


def uneven(raw: Mapping, plan: Plan, state: Any, entries: Sequence[Entry]) -> list[Tensor]:
    """The tensors that the state does not hold, which are kept for a lossless return: of parameters that stand still, and those
    of which it holds one number for several that are not equal bit by bit."""
    by_key = {entry.key: entry for entry in entries}
    found = []
    for number, indexes in enumerate(plan.listed[: len(plan.parts)]):
        _, values = _held(plan, state, number)
        for index in indexes:
            entry = by_key[plan.keys[index]]
            if not entry.path or path_of(entry) not in plan.parts[number]:
                found += [value for value in raw["state"].get(index, {}).values() if isinstance(value, Tensor)]
                continue
            for name, tree in values.items():
                tensor = raw["state"].get(index, {}).get(name)
                if isinstance(tensor, Tensor) and (held := tree.get(path_of(entry))) is not None:
                    shape = forward_shape(entry)
                    if np.shape(held) != shape and not same_bits(
                        np.array(np.broadcast_to(np.asarray(held), shape)), np.array(entry.layout.forward(tensor.array()))
                    ):
                        found.append(tensor)
    return found


def _held(plan: Plan, state: Any, number: int) -> tuple[Any, dict[str, dict[str, Any]]]:
    """A group's counts, and its buffers by torch's names and path."""
    from port_jax.optim.torch_groups import GroupsState
    from port_jax.optim.torch_state import unpacked

    inner = state.groups[number] if isinstance(state, GroupsState) else state
    count, buffers = unpacked(plan.table, inner)
    return count, {name: flatten(tree) for name, tree in buffers.items()}


def _with_count(group: Mapping, kind: str, own: Mapping[int, int], number: int, raw: Mapping) -> dict:
    new = dict(group)
    if kind in (counts.GROUP, counts.DOUBLE) and own and (any(raw["state"].get(i) for i in own) or kind == counts.GROUP):
        active = {i: n for i, n in own.items() if raw["state"].get(i)} if kind == counts.DOUBLE else own
        count = counts.group_count(kind, active, number)
        if count or "step" in group:
            new["step"] = counts.write(kind, group.get("step", 0), count)
    return new


def _written(old: Mapping, entry: Entry, path: str, values: Mapping[str, Mapping], plan: Plan, number: int, count: int,
             kept: Mapping[int, np.ndarray]) -> dict:  # fmt: skip
    kind = plan.dialects[number]
    begun = {"step": None} if kind == counts.PARAMETER else {"step": 0} if plan.table.endswith("RiemannianAdam") else {}
    new: dict[str, Any] = dict(old) if old else begun
    if "step" in new and kind == counts.PARAMETER:
        new["step"] = counts.write(kind, new["step"], count)
    shape = forward_shape(entry)
    for name, tree in values.items():
        before, array = new.get(name), np.asarray(tree[path])
        back = np.array(inverse(entry, np.broadcast_to(array, shape), path), order="C")
        first = kept.get(id(before)) if array.shape != shape else None
        if first is not None and first.dtype == back.dtype and _same_once(first, entry, array):
            back = first  # untouched since it was read
        if isinstance(before, Tensor) and before.dtype != str(back.dtype):
            raise Unmatched(f"{name} of {entry.key!r} is {back.dtype}; the file has {before.dtype}", "Keep the state's types")
        new[name] = from_array(back)
        if isinstance(before, Tensor):
            new[name] = replace(new[name], requires_grad=before.requires_grad)
    return new


def _same_once(first: np.ndarray, entry: Entry, array: np.ndarray) -> bool:
    """Whether the numbers that stand for all along an axis are those that the state holds."""
    whole = np.array(entry.layout.forward(first))
    once = whole[tuple(slice(0, 1) if n == 1 else slice(None) for n in array.shape)]
    return same_bits(np.array(once), np.array(array))
