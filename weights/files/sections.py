"""Where in a file the model, the optimizer and the configuration are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from weights.errors import Refused, Unreadable, shown
from weights.files import optimizers, places, wrappers
from weights.files.leftovers import left_over
from weights.files.optimizers import Optimizer
from weights.files.pickles.standins import Record, named_tensors, unwrapped
from weights.files.source import Source
from weights.files.tensors import Tensor
from weights.types import Document

MODELS = ("model", "state_dict", "model_state_dict", "params", "net")
SCHEDULERS = ("scheduler", "lr_scheduler", "lr_schedulers", "scheduler_state_dict", "lr_scheduler_state_dict", "sched")
CONFIGS = ("config", "args", "hparams", "hyper_parameters", "conf", "model_dict")
EPOCHS = ("epoch", "iteration", "global_step", "step")
LONGEST, DEPTH = 1000, 100
"""Characters of a key, and dots in it."""


@dataclass(frozen=True)
class Choice:
    """What the caller chooses in a file, None where the file decides.

    section: where the model is. prefix: what the model's keys begin with. optimizer: where the optimizer is. Places are names and
    positions joined by dots, such as "ema" or "optimizer_states.0".
    """

    section: str | None = None
    prefix: str | None = None
    optimizer: str | None = None


@dataclass(frozen=True)
class Sections:
    """The parts of a checkpoint. `tensors` are the model's by key, without the wrappers' `prefix`."""

    tensors: dict[str, Tensor]
    prefix: str
    model_at: tuple
    optimizers: tuple[Optimizer, ...]
    """The file's optimizers in its order: all of them, or the one that the caller chose."""
    config: Document | None
    epoch: int | None
    extras: tuple[str, ...]
    """The places of everything that is carried along and not interpreted."""
    others: tuple[tuple, ...] = ()
    """The paths of the optimizers that the caller did not choose."""
    apart: tuple[tuple, ...] = ()
    """The paths of the optimizers that move no parameter of the model, as those of the weights of losses."""
    schedulers: tuple[tuple, ...] = ()
    """The paths of the schedulers that belong to none of `optimizers`."""
    updates: int | None = None
    """Steps of the optimizer, if there is one and the file counts them by itself."""
    written: Mapping[str, str] = field(default_factory=dict)
    """By key, the key as the file has it, with what wrappers and the prefix put there."""


def split(root: object, choice: Choice | None = None) -> Sections:
    """Finds the parts.

    Raises Unreadable if no known wrapper contains a model, Usage for a choice that the file does not have, Refused for a key that is too
    long.
    """
    choice = choice or Choice()
    model_at, model = _model(root, choice)
    tensors = dict(_tensors(model))
    if not tensors:
        raise Unreadable(*_without_names(model, places.written(model_at)))
    top = root if isinstance(root, dict) else {}
    for key in tensors:
        if len(key) > LONGEST or key.count(".") > DEPTH:
            raise Refused(f"the key {shown(key)} has {len(key)} characters and {1 + key.count('.')} parts", "Rename it")
    every = tensors
    prefix, tensors = wrappers.removed(every, choice.prefix)
    listed, schedulers = _optimizers(root, top)
    own = optimizers.chosen(listed, choice.optimizer)
    said = next((name for name in CONFIGS if _plain(top.get(name)) is not None), None)
    config = None if said is None else _plain(top.get(said))
    counts = {name: int(top[name]) for name in EPOCHS if type(top.get(name)) is int}
    updates = next((name for name in ("global_step", "iteration", "step") if name in counts), None)
    timers = [path for path in (*schedulers, *(each.scheduler_at for each in listed)) if path]
    chosen = {each.at for each in own}
    used = {*timers, *((*each.at, part) for each in own for part in ("state", "param_groups"))}
    used |= {each.at for each in listed if each.at not in chosen} | {(name,) for name in (*list(counts)[:1], updates) if name}
    used |= {(said, key) for key in config} if config else {(said,)}
    left = left_over(root, used, model_at, {id(tensor) for tensor in tensors.values()})
    return Sections(
        tensors=tensors,
        prefix=prefix,
        model_at=model_at,
        optimizers=own,
        config=config,
        epoch=next(iter(counts.values()), None),
        extras=tuple(map(places.written, left)),
        others=tuple(each.at for each in listed if choice.optimizer is not None and each.at != own[0].at),
        schedulers=tuple(path for path in timers if path and path not in [each.scheduler_at for each in own]),
        updates=counts[updates] if updates and len(listed) == 1 else None,
        written=dict(zip(tensors, (key for key in every if key.startswith(prefix)), strict=True)),
    )


def split_again(source: Source) -> Sections:
    """The parts of a file that was converted, as they were chosen then; the keys are without what the conversion took from them."""
    section, optimizer = places.written(source.model_at), places.written(source.optimizer_at)
    return split(source.root, Choice(section=section or None, prefix=source.prefix or None, optimizer=optimizer or None))


def without_first(sections: Sections) -> Sections | None:
    """The sections without the first part of all keys (the attribute of a Lightning module); None if the keys do not share one."""
    firsts = {key.partition(".")[0] for key in sections.tensors}
    if len(firsts) != 1 or any("." not in key for key in sections.tensors):
        return None
    first = f"{firsts.pop()}."
    tensors = {key.removeprefix(first): tensor for key, tensor in sections.tensors.items()}
    written = {key.removeprefix(first): long for key, long in sections.written.items()}
    return replace(sections, tensors=tensors, prefix=sections.prefix + first, written=written)


def _model(root: object, choice: Choice) -> tuple[tuple, object]:
    if choice.section is not None:
        path = places.path_of(root, choice.section, "--section (section=...)")
        return path, places.at(root, path)
    if isinstance(root, Record) and root.is_module:
        return (), root
    if not isinstance(root, dict):
        what = f"an object of the class {root.name:.120}" if isinstance(root, Record) else f"a {type(root).__name__}"
        raise Unreadable(f"the file contains {what}, not a model", "Save a state_dict")
    for name in MODELS:
        value = root.get(name)
        if (isinstance(value, dict) and any(True for _ in _tensors(value))) or (isinstance(value, Record) and value.is_module):
            return (name,), value
    return (), root


def _tensors(model: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(model, Record) and model.is_module:
        yield from named_tensors(model, prefix)
    elif isinstance(model, Mapping) and depth < 20:
        for name, value in model.items():
            value = unwrapped(value)
            if isinstance(value, Tensor) and isinstance(name, str):
                yield f"{prefix}{name}", value
            elif isinstance(value, (Mapping, Record)) and isinstance(name, str):
                yield from _tensors(value, f"{prefix}{name}.", depth + 1)


def _without_names(model: object, at: str) -> tuple[str, str]:
    """What there is where no tensor has a name, and what to do about it."""
    where = f"the section {shown(at)}" if at else "the file"
    together = (
        "Give the model's file; to convert both, torch.save({'model': model.state_dict(), 'optimizer': optimizer.state_dict()}, FILE)"
    )
    if optimizers.is_optimizer(model):
        return f"{where} has the state of an optimizer, and no model", together
    if optimizers.is_scheduler(model):
        return f"{where} has the state of a scheduler, and no model", together
    for path, value in places.within(model):
        if isinstance(value, list) and any(isinstance(item, Tensor) for item in value):
            name = places.written(path) or at
            return (
                f"{where} has {len(value)} tensors in a list ({shown(name)}), which does not say what they are of",
                "Copy them into the model in torch (ema.copy_to(model.parameters()), for example), and save its state_dict",
            )
    return f"{where} contains no tensors", f"Save a state_dict, by itself or under one of {', '.join(MODELS)}"


def _optimizers(root: object, top: Mapping) -> tuple[list[Optimizer], list[tuple]]:
    """All optimizers with their schedulers, and the paths of the schedulers that are of none."""
    every, (path, scheduler) = optimizers.found(root), _scheduler(top)
    if len(every) > 1:
        return optimizers.scheduled(every, root)
    if not every:
        return [], [path] if path else []
    if not path:  # a list of one, under a name that is not among those
        return optimizers.scheduled(every, root)
    return [replace(every[0], scheduler=scheduler, scheduler_at=path)], []


def _scheduler(top: Mapping) -> tuple[tuple, object]:
    """The path and the state of the only scheduler; a list of several, which Lightning can have, stays a list."""
    for name in SCHEDULERS:
        value = top.get(name)
        if isinstance(value, (list, tuple)) and len(value) == 1:
            return (name, 0), value[0]
        if value is not None and not (isinstance(value, (list, tuple)) and not value):
            return (name,), value
    return next((((name,), value) for name, value in top.items() if optimizers.is_scheduler(value)), ((), None))


def _plain(value: object) -> Document | None:
    if isinstance(value, Record) and not value.is_module:
        value = {**value.items, **value.attributes}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        return None
    return {key: item for key, item in value.items() if _is_plain(item)}


def _is_plain(value: object, depth: int = 0) -> bool:
    if isinstance(value, (list, tuple)):
        return depth < 5 and all(_is_plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return depth < 5 and all(isinstance(k, str) and _is_plain(v, depth + 1) for k, v in value.items())
    return value is None or type(value) in (bool, int, float, str)


__all__ = ["Choice", "Sections", "split", "split_again", "without_first"]
