"""Mutation mode: errors planted in a port's variables, and which of them a person's own inputs would not show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from weights.mapping.curvature_settings import softplus
from weights.mapping.entries import Entry, flatten, nested
from weights.mapping.probes import Inputs
from weights.proof.flax_run import Arrays
from weights.proof.rows import largest
from weights.proof.sides import Sides

SEEN = 1e-7
"""What a difference has to exceed, relative to the largest value: beyond every gate in float64."""
RAW = ("isp_c", "isp_k")


@dataclass(frozen=True)
class Planted:
    """An error that was planted. what: in words. caught: by "forward", by "gradient", or "" where nothing shows it. remedy: what would."""

    what: str
    caught: str
    remedy: str = ""


def tried(sides: Sides, seed: int) -> Iterator[Planted]:
    """Plants each error by itself; the model is compiled once. Where the inputs do not show one, others of the same shapes are tried."""
    own, other = _Shown(sides, seed), _Shown(replace(sides, inputs=_drawn(sides.inputs, seed)), seed)
    for entry, what, changed in _errors(sides.checkpoint.entries, own.flat):
        if all(np.array_equal(changed[path], own.flat[path]) for path in changed):
            yield Planted(
                what, "", f"{entry.key} has the same numbers then: train the model, or draw its parameters, before it is compared"
            )
            continue
        caught = own.by(changed)
        yield Planted(what, caught, "" if caught else _remedy(entry, own.slopes, sides.inputs, other.by(changed), seed))
    for entry in sides.checkpoint.entries:
        name = entry.key.rpartition(".")[2]
        if name in RAW and entry.role != "tied":
            value = own.flat[entry.path] if entry.path else sides.checkpoint.constants[entry.key]
            if abs(softplus(float(np.asarray(value).reshape(-1)[0])) - 1) < 1e-3:
                yield Planted(
                    f"{entry.key}: c, 1/c, sqrt c and c squared exchanged", "", "The curvature is 1, where all are alike: take another"
                )


class _Shown:
    """What the right port computes of some inputs, and by what a wrong one differs: "forward", "gradient" or ""."""

    def __init__(self, sides: Sides, seed: int):
        random = np.random.default_rng(seed)
        self.sides = sides
        self.weights = {name: random.standard_normal(shape) for name, shape in sorted(sides.shapes.items())}
        self.zeros = {name: np.zeros(shape) for name, shape in sides.shapes.items()}
        self.outputs, self.slopes, _ = sides.pull(sides.variables, self.weights, self.zeros, 0.0)
        self.flat = {path: np.asarray(value, np.float64) for path, value in flatten(sides.variables).items()}

    def by(self, changed: Arrays) -> str:
        """For variables of which these are changed."""
        variables = jax.tree.map(jax.numpy.asarray, nested({**self.flat, **changed}))
        found, moved, _ = self.sides.pull(variables, self.weights, self.zeros, 0.0)
        return "forward" if _differ(self.outputs, found) else "gradient" if _differ(self.slopes, moved) else ""


def _drawn(inputs: Inputs, seed: int) -> Inputs:
    """Inputs of the same shapes and types: normal numbers, and integers in another order. Graphs stay."""
    random = np.random.default_rng(seed)

    def other(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        return random.normal(size=value.shape) if value.dtype.kind == "f" else random.permutation(value.reshape(-1)).reshape(value.shape)

    return {name: other(value) for name, value in inputs.items()}


def _errors(entries: list[Entry], flat: Arrays) -> Iterator[tuple[Entry, str, Arrays]]:
    before: dict[tuple[int, ...], Entry] = {}
    for entry in entries:
        path = entry.path
        if path is None:
            continue
        value = flat[path]
        if entry.role == "buffer":
            start = np.ones_like(value) if path.endswith("var") else np.zeros_like(value)
            yield entry, f"{entry.key} not carried over (as it is before training)", {path: start}
            continue
        if entry.key.rpartition(".")[2] in RAW:
            raw = float(value.reshape(-1)[0])
            yield entry, f"{entry.key}: 1/c in the place of c", {path: np.full_like(value, np.log(np.expm1(1 / softplus(raw))))}
            if raw > 0:
                yield entry, f"{entry.key}: the raw curvature taken for c", {path: np.full_like(value, np.log(np.expm1(raw)))}
            continue
        if value.ndim >= 2 and value.shape[-1] == value.shape[-2]:
            yield entry, f"{entry.key} transposed", {path: np.swapaxes(value, -1, -2)}
        yield entry, f"{entry.key} with the other sign", {path: -value}
        yield entry, f"{entry.key} missing", {path: 0 * value}
        yield entry, f"{entry.key} by a factor of 2", {path: 2 * value}
        if value.ndim and value.shape[-1] % 2 == 0:
            yield entry, f"the halves of {entry.key} exchanged", {path: np.roll(value, value.shape[-1] // 2, -1)}
        if value.ndim and (other := before.get(value.shape)) is not None:
            yield entry, f"{other.key} and {entry.key} exchanged", {path: flat[str(other.path)], str(other.path): value}
        before[value.shape] = entry


def _differ(a: Arrays, b: Arrays) -> bool:
    return any(not (largest(b[name] - a[name]) <= SEEN * (largest(a[name]) or 1.0)) for name in a)


def _remedy(entry: Entry, slopes: Arrays, inputs: Inputs, others: str, seed: int) -> str:
    """What would show it. others: by what inputs in general position show it."""
    slope = slopes.get(entry.key)
    if others:
        drawn = [f"{name} = np.random.default_rng({seed}).normal(size={value.shape})" for name, value in inputs.items()
                 if isinstance(value, np.ndarray) and value.dtype.kind == "f"]  # fmt: skip
        return f"Inputs such as {', '.join(drawn)} show it" if drawn else "The indices in another order show it"
    if slope is not None and not np.any(slope):
        return f"No output depends on {entry.key} at these inputs: give inputs that reach it, or name the output that does"
    if slope is not None and slope.ndim > 1 and not np.all(np.any(slope.reshape(len(slope), -1), 1)):
        return f"These inputs reach some rows of {entry.key} only: give indices of all of them"
    return "Give inputs in general position: several rows, no zeros, no row twice"


def report(planted: Sequence[Planted]) -> Iterator[str]:
    """How many would show, and those that would not, each with what does."""
    missed = [one for one in planted if not one.caught]
    yield f"{len(planted) - len(missed)} of {len(planted)} planted errors would show on these inputs."
    yield from (f"  not shown: {one.what}. {one.remedy}." for one in missed)


__all__ = ["Planted", "report", "tried"]
