"""Back to the torch file: what is kept of it when it is read, and its object tree with the present numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from weights.contents import Contents
from weights.errors import Usage, shown
from weights.files import places
from weights.files import source as sources
from weights.files.pickles.standins import DefaultDict
from weights.files.sections import Sections, split_again
from weights.files.tensors import Tensor
from weights.mapping import convert
from weights.optim.engine import save
from weights.optim.resume import Resumed
from weights.optim.several import states_of


def origin(root: object, parts: Sections, optimizer: Resumed | None) -> sources.Source:
    """What export needs of the file: its objects, and the tensors that neither keys nor the optimizer's state account for."""
    accounted = {id(t) for t in parts.tensors.values()}
    if optimizer is not None:
        states = [own.raw["state"] for own in parts.optimizers]
        beside = {id(t) for t in sources.tensors_of(root, frozenset(map(id, states)))}
        accounted |= {id(t) for state in states for t in sources.tensors_of(state)} - beside
        accounted -= {id(t) for t in optimizer.unheld}
    places = {t.place for t in parts.tensors.values()}
    every = sources.tensors_of(root)
    kept = {n: np.array(t.array(), order="C") for n, t in enumerate(every) if id(t) not in accounted and t.place not in places}
    for tensor in every:  # all have been read: what several share need not stay in memory
        tensor.storage.forget()
    at = parts.optimizers[0].at if len(parts.optimizers) == 1 else ()
    return sources.Source(root=root, prefix=parts.prefix, model_at=parts.model_at, optimizer_at=at, kept=kept)


def torch_tree(contents: Contents) -> object:
    """The object that torch.save would be given."""
    source = contents.source
    parts = split_again(source)
    by_tensor: dict[int, str] = {}
    by_place: dict[tuple, str] = {}
    for key, tensor in parts.tensors.items():
        by_tensor[id(tensor)] = key
        by_place.setdefault(tensor.place, key)
    kept = {id(t): source.kept[n] for n, t in enumerate(sources.tensors_of(source.root)) if n in source.kept}
    variables = {name: tree for name, tree in contents.variables.items() if tree or name != "params"}
    value = convert.to_torch(contents.entries, variables, contents.constants)

    def values(tensor: Tensor) -> np.ndarray:
        if id(tensor) in kept:
            return kept[id(tensor)]
        return value(by_tensor.get(id(tensor)) or by_place[tensor.place])

    replaced: list[tuple[object, object]] = []
    timers = {own.at: own.scheduler for own in parts.optimizers}
    states = states_of(contents.opt_state, tuple(plan.place for plan in contents.plans))
    for plan in contents.plans:
        raw, timing = places.at(source.root, plan.at), timers.get(plan.at)
        timing = timing if plan.scheduler is not None and isinstance(timing, Mapping) else None
        section, timed = save(raw, plan, states[plan.place], contents.entries, kept=kept, scheduler=timing)
        groups = type(raw["param_groups"])(map(_like, raw["param_groups"], section["param_groups"]))
        replaced += [(raw["state"], _like(raw["state"], section["state"])), (raw["param_groups"], groups)]  # what else stands there is kept
        replaced += [(timing, timed)] if timed is not timing else []
    return sources.filled(source, values, replaced)


def _like(old: object, new: dict) -> dict:
    """The dictionary as one of the class that the file's is of."""
    if isinstance(old, DefaultDict):
        return DefaultDict(old.factory, new)
    return type(old)(new) if isinstance(old, dict) else new


def tensors_by_key(contents: Contents, suffix: str) -> dict[str, Tensor]:
    """The tensors of the file by key, for a format that has nothing else; Usage if the file has more, or for another suffix."""
    root = contents.source.root
    if suffix != ".safetensors":
        raise Usage(f"torch reads no {suffix} file", "Give a name that ends in .pth")
    more = [key for key, value in root.items() if not isinstance(value, Tensor)] if isinstance(root, Mapping) else ["a module"]
    if more:
        raise Usage(
            f"a .safetensors file has only tensors, and this checkpoint has {', '.join(map(shown, more[:4]))}",
            "Give a name that ends in .pth",
        )
    tree = torch_tree(contents)
    assert isinstance(tree, Mapping)
    return {str(key): tensor for key, tensor in tree.items()}


__all__ = ["origin", "tensors_by_key", "torch_tree"]
