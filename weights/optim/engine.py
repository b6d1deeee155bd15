"""Optimizer state across, both ways: torch's state_dict of indices <-> an optax transformation and its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weights.convert import Entry, flatten, inverse, same_bits
from weights.errors import ConversionError, Unmatched
from weights.optim import OPTIMIZERS, counts, names
from weights.optim.grouped import GroupedState, Part, flat_manifolds, grouped, only
from weights.optim.table import OptimizerTable
from weights.tensors import Tensor, from_array

COLLECTION = "params/"
UNEVEN = 1024
"""Units in the last place by which torch's copies of one number drift apart: its vector lanes and the rest round differently."""


@dataclass(frozen=True)
class Plan:
    """How a file's optimizer became a transformation; JSON-able, enough to build it again and to write it back."""

    table: str
    dialects: list[str]
    keys: dict[int, str]
    listed: list[list[int]]
    parts: list[list[str]]
    """The paths of each group that move."""
    extras: list[int]
    still: list[str] = field(default_factory=list)
    """Trained parameters that have no state where others have: they were frozen, and get no update."""
    source: str = ""


def choose(raw: Mapping, name: str | None) -> OptimizerTable:
    """The table for a file's optimizer: by its groups' settings, which the configuration's name may not contradict."""
    groups = raw["param_groups"]
    found = next(
        (t for t in OPTIMIZERS.values() if groups and all(isinstance(g, dict) and t.recognise(g) for g in groups)), None
    )
    if found is None:
        settings = sorted(groups[0]) if groups and isinstance(groups[0], dict) else groups
        raise Unmatched(
            f"the optimizer's settings are {settings}, of none of {', '.join(OPTIMIZERS)}",
            "Convert without it: --no-optimizer",
        )
    named = next((t for t in OPTIMIZERS.values() if name and name.lower() in (t.name.lower(), *t.aliases)), None)
    if named is None or named is found:
        return found
    if {named.name, found.name} == {"Adam", "AdamW"} and not any("decoupled_weight_decay" in g for g in groups):
        return named  # files from before torch 2.7 do not tell the two apart
    if named.name == "RiemannianAdam" and found.name == "Adam" and any("step" in g for g in groups):
        return named  # the copies of geoopt's Adam keep `stabilize` out of the groups
    raise Unmatched(
        f"the configuration's optimizer is {name}, the file's settings are those of {found.name}",
        "Correct the configuration",
    )


def load(raw: Mapping, table: OptimizerTable, params: dict, entries: Sequence[Entry], tensors: Mapping[str, Tensor], prefix: str,
         manifolds: Callable[[Any], Any] | None, table_groups: list[list[str]] | None, given: Sequence[Sequence[str]] | None,
         leaf: Callable[[np.ndarray], Any]) -> tuple[Any, Any, Plan]:  # fmt: skip
    """The transformation, its state and the plan."""
    groups, states = raw["param_groups"], raw["state"]
    listed = names.indices(groups)
    keys, source = names.keys_by_index(groups, listed, entries, tensors, prefix, table_groups, given)
    by_key = {entry.key: entry for entry in entries}
    for index in states:
        if index not in keys:
            raise Unmatched(
                f"the optimizer has state for index {index}, which is in no group", "Save optimizer.state_dict()"
            )
    fresh = not any(states.values())
    dialects, parts, extras, tallies = [], [], [], {}
    still: list[str] = []
    for number, (group, indexes) in enumerate(zip(groups, listed)):
        _supported(table, group, number)
        own = {i: states[i] for i in indexes if states.get(i)}
        kind = counts.dialect(group, list(own.values()), table.counts)
        tally, extra = counts.read(kind, group, own, number)
        moving = []
        for index in indexes:
            entry = by_key[keys[index]]
            has_state = index in own
            if entry.role != "parameter":
                if has_state:
                    raise Unmatched(
                        f"the optimizer has state for {entry.key!r}, which is fixed",
                        "Set learnable_curvature in the configuration, if it was trained",
                    )
            elif has_state or fresh or not table.active(group):
                moving.append(_path(entry))
                tallies[_path(entry)] = tally.get(
                    index, counts.integer(group.get("step", 0), "step") if kind == counts.GROUP else 0
                )
            else:
                still.append(_path(entry))
        dialects.append(kind)
        parts.append(moving)
        extras.append(extra)
    plan = Plan(table.name, dialects, keys, listed, parts, extras, still, source)
    transformation, shapes = build(plan, groups, params, manifolds)
    moments = {
        _path(by_key[keys[i]]): _moments(table, groups, listed, i, state, by_key[keys[i]])
        for i, state in states.items()
        if state
    }
    state = _assembled(table, plan, groups, params, shapes, tallies, moments, leaf)
    return transformation, state, plan


def build(
    plan: Plan, groups: Sequence[Mapping], params: dict, manifolds: Callable[[Any], Any] | None
) -> tuple[Any, Any]:
    """The transformation of a plan, and the shapes of its state. One group over all parameters needs no wrapper."""
    table = OPTIMIZERS[plan.table]
    if not table.riemannian:
        manifolds = None
    ordered = manifolds is not None and any(isinstance(x, jax.Array) for x in jax.tree.leaves(manifolds(params)))
    try:
        if simple(plan, params):
            order = plan.parts[0] if ordered else None
            transformation = table.build(groups[0], manifolds or flat_manifolds, order)
        else:
            parts = [Part(g, tuple(p), e) for g, p, e in zip(groups, plan.parts, plan.extras)]
            transformation = grouped(table, parts, manifolds, ordered)
        return transformation, jax.eval_shape(transformation.init, params)
    except ConversionError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise Unmatched(
            f"the optimizer's settings do not fit the model: {error}", "Check the configuration and the manifolds"
        ) from None


def simple(plan: Plan, params: dict) -> bool:
    """Whether one transformation moves everything."""
    return len(plan.parts) == 1 and set(plan.parts[0]) == set(flatten(params)) and not any(plan.extras)


def uneven(raw: Mapping) -> list[Tensor]:
    """The second moments whose copies along the last axis are not equal bit by bit: they are kept, for a lossless return."""
    found = [
        state[name]
        for state in raw["state"].values()
        for name in ("exp_avg_sq", "max_exp_avg_sq")
        if isinstance(state.get(name), Tensor)
    ]
    return [t for t in found if t.shape and t.shape[-1] > 1 and not (t.array() == t.array()[..., :1]).all()]


def save(raw: Mapping, plan: Plan, state: Any, entries: Sequence[Entry], kept: Mapping[int, np.ndarray]) -> dict:
    """A file's optimizer section with the state as it stands now, in the file's dialect. `kept`: see `uneven`, by id."""
    table = OPTIMIZERS[plan.table]
    by_key = {entry.key: entry for entry in entries}
    inner = state.groups if isinstance(state, GroupedState) else (state,)
    new = {**raw, "state": {}, "param_groups": []}
    written: dict[int, dict] = {}
    for number, (group, indexes, moving) in enumerate(zip(raw["param_groups"], plan.listed, plan.parts)):
        _, count, trees = table.unpack(inner[number])
        tally = {p: int(np.asarray(n)) for p, n in flatten(count).items() if _is_array(n)} if count is not None else {}
        values = {name: flatten(trees[field]) for name, field in table.moments.items() if trees.get(field) is not None}
        own: dict[int, int] = {}
        for index in indexes:
            entry = by_key[plan.keys[index]]
            old = raw["state"].get(index, {})
            path = _path(entry) if entry.path else ""
            if path not in moving:
                written[index] = dict(old)
                continue
            own[index] = tally.get(path, 0)
            untouched = not old and not own[index] and not any(np.any(np.asarray(v[path])) for v in values.values())
            written[index] = (
                {} if untouched else _written(old, entry, path, values, plan.dialects[number], own[index], kept)
            )
        new["param_groups"].append(_with_count(group, plan.dialects[number], own, number, raw))
    order = [*raw["state"], *sorted(i for i in written if i not in raw["state"] and written[i])]
    new["state"] = {i: written.get(i, {}) for i in order}
    for group in new["param_groups"]:  # a learning rate may be a tensor
        group.update({name: from_array(kept[id(value)]) for name, value in group.items() if id(value) in kept})
    return new


def _with_count(group: Mapping, kind: str, own: Mapping[int, int], number: int, raw: Mapping) -> dict:
    new = dict(group)
    if (
        kind in (counts.GROUP, counts.DOUBLE)
        and own
        and (any(raw["state"].get(i) for i in own) or kind == counts.GROUP)
    ):
        active = {i: n for i, n in own.items() if raw["state"].get(i)} if kind == counts.DOUBLE else own
        count = counts.group_count(kind, active, number)
        if count or "step" in group:
            new["step"] = counts.write(kind, group.get("step", 0), count)
    return new


def _written(
    old: Mapping,
    entry: Entry,
    path: str,
    values: Mapping[str, Mapping],
    kind: str,
    count: int,
    kept: Mapping[int, np.ndarray],
) -> dict:
    new: dict[str, Any] = dict(old) if old else ({"step": None} if kind == counts.PARAMETER else {})
    if "step" in new and kind != counts.DOUBLE:
        new["step"] = counts.write(kind, new["step"], count)
    for name, tree in values.items():
        before = new.get(name)
        array = np.asarray(tree[path])
        shaped = np.broadcast_to(array, _forward_shape(entry)) if array.shape != _forward_shape(entry) else array
        back = np.array(inverse(entry, shaped, path), order="C")
        if (
            (first := kept.get(id(before))) is not None
            and first.dtype == back.dtype
            and same_bits(first[..., :1], back[..., :1])
        ):
            back = first  # untouched since it was read
        if isinstance(before, Tensor) and before.dtype != str(back.dtype):
            raise Unmatched(
                f"{name} of {entry.key!r} is {back.dtype}; the file has {before.dtype}", "Keep the state's types"
            )
        new[name] = from_array(back)
    return new


def _moments(
    table: OptimizerTable, groups: Sequence[Mapping], listed: list[list[int]], index: int, state: Mapping, entry: Entry
) -> dict[str, np.ndarray]:
    group = next(g for g, indexes in zip(groups, listed) if index in indexes)
    known = {"step", *table.moments}
    if unknown := set(state) - known:
        raise Unmatched(
            f"the optimizer keeps {sorted(map(str, unknown))} for {entry.key!r}, which {table.name} does not",
            "Convert without it: --no-optimizer",
        )
    result = {}
    for name, field_ in table.moments.items():
        tensor = state.get(name)
        if tensor is None and name in table.optional(group):
            continue
        if not isinstance(tensor, Tensor):
            raise Unmatched(f"the optimizer's {name} of {entry.key!r} is missing", "Save optimizer.state_dict()")
        if tensor.shape != entry.shape:
            raise Unmatched(f"the optimizer's {name} at index {index} has shape {tensor.shape}; {entry.key!r} has {entry.shape}",
                            "The order of the parameters differs: give groups=[[...]] (--groups)")  # fmt: skip
        array = tensor.array()
        if not np.isfinite(array).all():
            raise Unmatched(f"the optimizer's {name} of {entry.key!r} is not finite", "Take an earlier checkpoint")
        result[field_] = entry.layout.forward(array)
    return result


def _assembled(table: OptimizerTable, plan: Plan, groups: Sequence[Mapping], params: dict, shapes: Any, tallies: Mapping[str, int],
               moments: Mapping[str, Mapping[str, np.ndarray]], leaf: Callable[[np.ndarray], Any]) -> Any:  # fmt: skip
    whole = simple(plan, params)
    inner = (shapes,) if whole else shapes.groups
    states = []
    for number, (shape, paths) in enumerate(zip(inner, plan.parts)):
        masked = params if whole else only(paths, params)
        _, count, trees = table.unpack(shape)

        def tree(field_: str, like: Any) -> Any:
            return jax.tree_util.tree_map_with_path(
                lambda at, s: leaf(_fitted(moments.get(_joined(at), {}).get(field_), s, _joined(at), field_)), like
            )

        filled = {name: None if like is None else tree(name, like) for name, like in trees.items()}
        steps = jax.tree_util.tree_map_with_path(lambda at, _: jnp.asarray(tallies[_joined(at)], jnp.int32), masked)
        own = [tallies[path] for path in paths]
        step = (
            counts.integer(groups[number].get("step", 0), "step")
            if plan.dialects[number] == counts.GROUP
            else max(own, default=0)
        )
        states.append(table.pack(jnp.asarray(step, jnp.int32), steps if count is not None else None, filled))
    return states[0] if whole else GroupedState(tuple(states))


def _fitted(array: np.ndarray | None, like: Any, path: str, name: str) -> np.ndarray:
    """A moment in the shape of the state: one number a point where torch repeats it over the point's axes."""
    if array is None:
        return np.zeros(like.shape, like.dtype)
    if array.shape == like.shape:
        return array
    if array.ndim == len(like.shape) and all(n in (1, m) for n, m in zip(like.shape, array.shape)):
        once = array[tuple(slice(0, 1) if n == 1 else slice(None) for n in like.shape)]
        if np.all(np.abs(array - once) <= UNEVEN * np.finfo(array.dtype).eps * np.abs(once)):
            return once
        raise Unmatched(f"the second moment {name} of {path} differs along a point's axes; on its manifold there is one number a point",
                        "Check the manifolds: the parameter was trained as a flat one")  # fmt: skip
    raise Unmatched(
        f"the moment {name} of {path} has shape {array.shape}; the optimizer keeps {like.shape}", "Check the manifolds"
    )


def _supported(table: OptimizerTable, group: Mapping, number: int) -> None:
    reason = table.unsupported(group)
    if reason:
        raise Unmatched(
            f"param_groups[{number}] of {table.name} has {reason}, which has no counterpart",
            "Convert without it: --no-optimizer",
        )


def _forward_shape(entry: Entry) -> tuple[int, ...]:
    return entry.layout.forward(np.broadcast_to(np.empty((), np.int8), entry.shape)).shape


def _path(entry: Entry) -> str:
    assert entry.path is not None
    return entry.path.removeprefix(COLLECTION)


def _joined(at: Any) -> str:
    return "/".join(jax.tree_util.keystr((key,), simple=True) for key in at)


def _is_array(value: object) -> bool:
    return hasattr(value, "dtype")


__all__ = ["Plan", "build", "choose", "load", "save", "simple", "uneven"]
