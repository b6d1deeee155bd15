"""Optimizers and schedulers that were pickled as objects: their state_dicts, which is all that is read of them."""

from __future__ import annotations

from weights.files import places
from weights.files.pickles.standins import Record
from weights.files.tensors import Tensor


class Packed(dict):
    """The state_dict of an object that was pickled itself."""


def as_state_dicts(root: object) -> object:
    """The file's objects, with each optimizer and scheduler among them in the form of its `state_dict()`. Changes `root` in place."""
    made: dict[int, Packed] = {}
    for _, holder in list(places.within(root)):
        items = list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder)) if isinstance(holder, list) else []
        for key, value in items:
            if isinstance(value, Record) and (state := _optimizer(value) or _scheduler(value)):
                holder[key] = made.setdefault(id(value), Packed(state))
    return root


def _optimizer(record: Record) -> dict | None:
    """What torch.optim.Optimizer.state_dict packs: parameters are numbered as the groups list them, and states go by these numbers."""
    state, groups = record.attributes.get("state"), record.attributes.get("param_groups")
    if not isinstance(state, dict) or not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return None
    listed = [group.get("params") for group in groups]
    if not all(isinstance(params, list) and all(isinstance(each, Tensor) for each in params) for params in listed):
        return None
    numbers: dict[int, int] = {}
    for tensor in (each for params in listed for each in params):
        numbers.setdefault(id(tensor), len(numbers))
    if not all(id(tensor) in numbers for tensor in state):
        return None
    packed = [
        {**{name: value for name, value in group.items() if name != "params"}, "params": [numbers[id(each)] for each in params]}
        for group, params in zip(groups, listed)
    ]
    return {"state": {numbers[id(tensor)]: value for tensor, value in state.items()}, "param_groups": packed}


def _scheduler(record: Record) -> dict | None:
    """What torch's LRScheduler.state_dict gives, which is all but the optimizer; None for those that have other objects inside."""
    own = record.attributes
    if "optimizer" not in own or type(own.get("last_epoch")) is not int:
        return None
    state = {name: value for name, value in own.items() if name != "optimizer"}
    lists = [value for value in state.values() if isinstance(value, list)]
    inside = [*state.values(), *(item for items in lists for item in items)]
    return None if any(isinstance(value, Record) for value in inside) else state


__all__ = ["Packed", "as_state_dicts"]
