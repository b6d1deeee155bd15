"""The first layer at which two sides differ: torch's forward hooks beside flax's intercepted calls, aligned by the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from weights.mapping.entries import Entry
from weights.mapping.probes import Inputs
from weights.proof.flax_run import QUICK
from weights.proof.rows import ulps
from weights.proof.sides import Sides
from weights.types import TorchModule, Variables


@dataclass(frozen=True)
class Call:
    """What a module was given at its first call, and what it gave: arrays in order."""

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


@dataclass(frozen=True)
class Difference:
    """Where two sides differ first. torch, flax: the module's names there. inputs_agree: whether it was given the same on both sides.

    index: of the largest difference, with both values. ulp: percentiles of the difference in units in the last place: 50, 99 and 100.
    after: torch's name of the last layer before it that agrees.
    """

    torch: str
    flax: str
    inputs_agree: bool
    theirs: np.ndarray
    ours: np.ndarray
    index: tuple[int, ...]
    values: tuple[float, float]
    ulp: tuple[float, float, float]
    after: str = ""


def aligned(entries: list[Entry]) -> dict[str, str]:
    """torch's module -> flax's, where the rules lead all its own parameters and buffers into one module."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        if entry.path is not None and "." in entry.key:
            flax_module = entry.path.partition("/")[2].rpartition("/")[0]
            found.setdefault(entry.key.rpartition(".")[0], set()).add(flax_module)
    return {name: next(iter(paths)) for name, paths in found.items() if len(paths) == 1}


def torch_calls(sides: Sides, module: TorchModule) -> dict[str, Call]:
    """The first call of each submodule, in the order in which they ended."""
    found: dict[str, Call] = {}

    def hook(name: str) -> Callable[..., None]:
        def seen(_: TorchModule, given: Any, result: Any) -> None:
            found.setdefault(name, Call(list(_arrays(given)), list(_arrays(result))))

        return seen

    hooks = [child.register_forward_hook(hook(name)) for name, child in module.named_modules() if name]
    sides.run_torch(module)
    for handle in hooks:
        handle.remove()
    return found


def flax_calls(sides: Sides) -> dict[str, Call]:
    """The first call of each flax module by its path; of arguments that consist of arrays, such as manifolds, the arrays."""

    def traced(variables: Variables, inputs: Inputs) -> dict[str, tuple[list[Any], list[Any]]]:
        found: dict[str, tuple[list[Any], list[Any]]] = {}

        def seen(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            result = call(*args, **kwargs)
            if context.method_name == "__call__":
                found.setdefault("/".join(context.module.path), (_leaves(args), _leaves(result)))
            return result

        with nn.intercept_methods(seen):
            sides.run_flax(variables, inputs)
        return found

    found = jax.jit(traced, compiler_options=QUICK)(sides.variables, sides.given)
    return {name: Call([np.asarray(x) for x in given], [np.asarray(x) for x in gave]) for name, (given, gave) in found.items()}


def _leaves(value: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(value) if hasattr(leaf, "dtype") and hasattr(leaf, "shape")]


def first_difference(sides: Sides, gate: float, theirs: Mapping[str, Call], ours: Mapping[str, Call]) -> Difference | None:
    """The first module, in torch's order, whose output differs by more than `gate` relative to its largest value; None if none does.

    A module is compared with the one of flax that has its parameters, or its name, whichever gives an output of its shape.
    """
    names, after = aligned(sides.checkpoint.entries), ""
    for name in theirs:
        for path in dict.fromkeys((names.get(name, name), name.replace(".", "/"), name.replace(".", "_"))):
            pairs = zip(theirs[name].outputs, ours[path].outputs) if path in ours else ()
            fitting = [(a, z) for a, b in pairs if (z := laid_out(b, a.shape)) is not None]
            for a, b in fitting:
                if not agree(a, b, gate):
                    found = difference(name, path, _given_the_same(theirs[name], ours[path], gate), a, b)
                    return replace(found, after=after)
            if fitting:
                after = name
                break
    return None


def _given_the_same(theirs: Call, ours: Call, gate: float) -> bool:
    """Whether each input of torch's module is one of flax's."""
    laid = [[z for y in ours.inputs if (z := laid_out(y, x.shape)) is not None] for x in theirs.inputs]
    return all(any(agree(x, z, gate) for z in some) for x, some in zip(theirs.inputs, laid))


def difference(name: str, path: str, same: bool, theirs: np.ndarray, ours: np.ndarray) -> Difference:
    """Two arrays that differ, with the worst index."""
    gap = np.abs(theirs.astype(np.float64) - ours)
    gap = np.where(np.isfinite(gap), gap, np.inf)
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(gap)), gap.shape))
    return Difference(name, path, same, theirs, ours, at, (float(theirs[at]), float(ours[at])), in_ulp(theirs, ours))


def in_ulp(theirs: np.ndarray, ours: np.ndarray) -> tuple[float, float, float]:
    """The median, the 99th percentile and the largest difference in units in the last place of torch's values."""
    low, high, top = np.percentile(ulps(theirs, ours), (50, 99, 100), method="higher")  # between two numbers there may be inf - inf
    return float(low), float(high), float(top)


def agree(theirs: np.ndarray, ours: np.ndarray, gate: float) -> bool:
    """Whether two arrays agree relative to the largest value."""
    top = float(np.max(np.abs(theirs), initial=0)) or 1.0
    return theirs.shape == ours.shape and bool(np.max(np.abs(theirs.astype(np.float64) - ours), initial=0) <= gate * top)


def laid_out(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """An array of flax in torch's shape: as it is, or with its channels, which are last, on the second axis; None if neither fits."""
    if array.shape == shape:
        return array
    moved = np.moveaxis(array, -1, 1) if array.ndim > 2 else array
    if moved.shape == shape:
        return moved
    return array.reshape(shape) if np.squeeze(array).shape == tuple(n for n in shape if n != 1) else None


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """The tensors in what a module of torch was given or gave."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _arrays(item)
    elif hasattr(value, "detach"):  # a tensor of torch, which this file does not import
        yield value.detach().numpy().copy()


__all__ = ["Call", "Difference", "agree", "aligned", "difference", "first_difference", "flax_calls", "in_ulp", "laid_out", "torch_calls"]
