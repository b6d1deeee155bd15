"""Mutation mode: errors planted in a port's variables, and which of them a person's own inputs would not show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np

from weights.mapping.curvature_settings import softplus
from weights.mapping.entries import Entry, flatten, place
from weights.proof.rows import largest
from weights.proof.sides import Arrays, Sides
from weights.types import Variables

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
    """Plants each error by itself. The model is compiled once."""
    random = np.random.default_rng(seed)
    weights = {name: random.standard_normal(shape) for name, shape in sorted(sides.shapes.items())}
    zeros = {name: np.zeros(shape) for name, shape in sides.shapes.items()}
    outputs, slopes, _ = sides.pull(sides.variables, weights, zeros, 0.0)
    flat = {path: np.asarray(value, np.float64) for path, value in flatten(sides.variables).items()}
    for entry, what, changed in _errors(sides.checkpoint.entries, flat):
        if all(np.array_equal(changed[path], flat[path]) for path in changed):
            yield Planted(
                what, "", f"{entry.key} has the same numbers then: train the model, or draw its parameters, before it is compared"
            )
            continue
        found, moved, _ = sides.pull(_nested({**flat, **changed}), weights, zeros, 0.0)
        caught = "forward" if _differ(outputs, found) else "gradient" if _differ(slopes, moved) else ""
        yield Planted(what, caught, "" if caught else _remedy(entry, slopes))
    for entry in sides.checkpoint.entries:
        name = entry.key.rpartition(".")[2]
        if name in RAW and entry.role != "tied":
            value = flat[entry.path] if entry.path else sides.checkpoint.constants[entry.key]
            if abs(softplus(float(np.asarray(value).reshape(-1)[0])) - 1) < 1e-3:
                yield Planted(
                    f"{entry.key}: c, 1/c, sqrt c and c squared exchanged", "", "The curvature is 1, where all are alike: take another"
                )


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
            if raw > 0:
                yield entry, f"{entry.key}: the raw curvature taken for c", {path: np.full_like(value, np.log(np.expm1(raw)))}
            continue
        if value.ndim >= 2 and value.shape[-1] == value.shape[-2]:
            yield entry, f"{entry.key} transposed", {path: np.swapaxes(value, -1, -2)}
        yield entry, f"{entry.key} with the other sign", {path: -value}
        yield entry, f"{entry.key} missing", {path: 0 * value}
        if value.ndim and value.shape[-1] % 2 == 0:
            yield entry, f"the halves of {entry.key} exchanged", {path: np.roll(value, value.shape[-1] // 2, -1)}
        if value.ndim and (other := before.get(value.shape)) is not None:
            yield entry, f"{other.key} and {entry.key} exchanged", {path: flat[str(other.path)], str(other.path): value}
        before[value.shape] = entry


def _nested(flat: Arrays) -> Variables:
    tree: Variables = {}
    for path, value in flat.items():
        place(tree, path, jax.numpy.asarray(value))
    return tree


def _differ(a: Arrays, b: Arrays) -> bool:
    return any(not (largest(b[name] - a[name]) <= SEEN * (largest(a[name]) or 1.0)) for name in a)


def _remedy(entry: Entry, slopes: Arrays) -> str:
    slope = slopes.get(entry.key)
    if slope is not None and not np.any(slope):
        return f"No output depends on {entry.key} at these inputs: give inputs that reach it, or name the output that does"
    if slope is not None and slope.ndim > 1 and not np.all(np.any(slope.reshape(len(slope), -1), 1)):
        return f"These inputs reach some rows of {entry.key} only: give indices of all of them"
    return "Give inputs in general position: several rows, no zeros, no row twice"


__all__ = ["Planted", "tried"]
