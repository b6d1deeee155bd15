"""The optimizers' states in a file, wherever they are and whatever they are called, and the scheduler of each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from weights.errors import Usage
from weights.files import places
from weights.files.tensors import Tensor

MOST = 6
"""Optimizers of one file whose schedulers are told apart."""
_WORDS = re.compile("optimi[sz]er|optim|opt|schedulers?|sched|lr|state|dict|s?_+|s$", re.IGNORECASE)


@dataclass(frozen=True)
class Optimizer:
    """One optimizer of a file.

    at: its path. raw: its `state_dict()`. scheduler, scheduler_at: the state of the scheduler that steps its rates, and its path; None and
    an empty path where the file has none for it.
    """

    at: tuple
    raw: dict
    scheduler: object = None
    scheduler_at: tuple = ()

    @property
    def place(self) -> str:
        """The path as a person writes it."""
        return places.written(self.at)


def found(root: object) -> list[Optimizer]:
    """All of the file, in its order, the damaged ones too (`weights.optim.plan.groups_of`). What stands inside of one is not another."""
    return [Optimizer(path, value) for path, value in _outermost(root, is_optimizer)]


def chosen(every: Sequence[Optimizer], said: str | None) -> tuple[Optimizer, ...]:
    """The one at the place that was said, else all."""
    if said is None:
        return tuple(every)
    if not (one := tuple(each for each in every if each.place == said)):
        shown = ", ".join(each.place for each in every) or "none"
        raise Usage(f"the file has no optimizer at {said!r}; it has {shown}", "Correct --optimizer-at (optimizer_at=...)")
    return one


def scheduled(every: Sequence[Optimizer], root: object) -> tuple[list[Optimizer], list[tuple]]:
    """Several optimizers with the file's schedulers, and the paths of the schedulers that nothing assigns to one of them.

    A scheduler belongs to the optimizer whose rates it has set. Where these leave a choice, its name or position decides, if it is that
    of an optimizer ("sched_h" and "opt_h"; the second of each list).
    """
    timers = [(path, value) for path, value in _outermost(root, is_scheduler) if not any(path[: len(o.at)] == o.at for o in every)]
    fitting = [[n for n, each in enumerate(every) if _has_set(state, each.raw)] for _, state in timers]
    if max(len(every), len(timers)) > MOST:
        return list(every), [path for path, _ in timers]
    open_ = [n for n, own in enumerate(fitting) if own]
    ways = list(_ways([fitting[n] for n in open_]))
    named = [way for way in ways if all(_kin(timers[t][0], every[o].at) for t, o in zip(open_, way))]
    settled = ways if len(ways) == 1 else named
    if len(settled) != 1:
        return list(every), [path for path, _ in timers]
    result = list(every)
    for t, o in zip(open_, settled[0], strict=True):
        result[o] = replace(result[o], scheduler=timers[t][1], scheduler_at=timers[t][0])
    return result, [path for n, (path, _) in enumerate(timers) if n not in open_]


def _outermost(root: object, wanted: Callable[[dict], bool]) -> list[tuple[tuple, dict]]:
    states: dict[tuple, dict] = {}
    for path, value in places.within(root):
        if isinstance(value, dict) and wanted(value) and not any(path[:n] in states for n in range(len(path))):
            states[path] = value
    return list(states.items())


def is_optimizer(value: object) -> bool:
    """Whether a value is an optimizer's state_dict, damaged or not."""
    return isinstance(value, dict) and isinstance(value.get("param_groups"), (list, tuple)) and "state" in value


def is_scheduler(value: object) -> bool:
    """Whether a value is a scheduler's state_dict."""
    if not isinstance(value, dict):
        return False
    counts = type(value.get("last_epoch")) is int or isinstance(value.get("_schedulers"), list)
    return counts and not {"_last_lr", "base_lrs", "num_bad_epochs", "_schedulers"}.isdisjoint(value)


def _has_set(scheduler: dict, optimizer: dict) -> bool:
    """Whether the rates of an optimizer's groups can be those of a scheduler's state, now and at the start."""
    groups = [group for group in optimizer["param_groups"] if isinstance(group, dict)]
    for told, own in (("_last_lr", "lr"), ("base_lrs", "initial_lr")):
        rates, here = scheduler.get(told), [_number(group.get(own)) for group in groups]
        if not isinstance(rates, (list, tuple)):
            continue
        there = [_number(rate) for rate in rates]
        if len(there) != len(here) or not all(a is None or b is None or math.isclose(a, b, rel_tol=1e-6) for a, b in zip(there, here)):
            return False
    return True


def _number(value: object) -> float | None:
    if isinstance(value, Tensor):
        return float(value.array().reshape(-1)[0]) if value.numel == 1 else None
    return float(value) if isinstance(value, (int, float)) else None


def _ways(fitting: Sequence[Sequence[int]], used: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Every way to give each scheduler an optimizer of its own."""
    if len(used) == len(fitting):
        yield used
        return
    for number in fitting[len(used)]:
        if number not in used:
            yield from _ways(fitting, (*used, number))


def _kin(scheduler: tuple, optimizer: tuple) -> bool:
    """Whether two paths say the same but for the words that mean a scheduler and an optimizer."""
    one, two = ([_WORDS.sub("", str(step)).lower() for step in path] for path in (scheduler, optimizer))
    return [step for step in one if step] == [step for step in two if step]


__all__ = ["Optimizer", "chosen", "found", "is_optimizer", "is_scheduler", "scheduled"]
