"""What kind of error a difference looks like: errors are planted on the side of torch until it computes what the port does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from weights.proof.changes import exchanges, factors
from weights.proof.plants import plants, raw_below_zero, restored
from weights.types import TorchModule

NEAR = 1e-6
"""Relative: an error that was guessed right is reproduced to the gate, one that was not is far off."""


@dataclass(frozen=True)
class Cause:
    """A kind of error in words, and what to do about it."""

    kind: str
    remedy: str


def of_arrays(theirs: np.ndarray, ours: np.ndarray, curvatures: Sequence[float] = (), sizes: Sequence[int] = ()) -> Cause | None:
    """What the values alone show: a sign, a factor, exchanged axes or halves. None where they show nothing. sizes: numbers of rows over
    which a mean may have been taken.
    """
    theirs, ours = theirs.astype(np.float64), ours.astype(np.float64)
    if _same(theirs, ours) or not (np.isfinite(theirs).all() and np.isfinite(ours).all()):
        return None
    for what, change in exchanges(theirs.shape):
        if _same(change(theirs), ours):
            return Cause(what, "Exchange them back")
    large = np.abs(theirs) > 1e-3 * np.max(np.abs(theirs), initial=0)
    if not large.any():
        return None
    ratios = ours[large] / theirs[large]
    factor = float(np.median(ratios))
    if np.max(np.abs(ratios - factor)) > NEAR * max(abs(factor), 1e-30):
        return None
    return Cause(f"a factor of {_named(factor, [*theirs.shape[:1], *sizes], curvatures)}", "Multiply by its inverse, or remove it")


def of_no_numbers(module: TorchModule, theirs: np.ndarray, ours: np.ndarray) -> Cause | None:
    """Why JAX has no finite numbers where torch has them: first a raw curvature of at most 0, then what divides and takes roots. None where
    JAX has them.
    """
    if not np.any(np.isfinite(theirs) & ~np.isfinite(ours)):
        return None
    if raw := raw_below_zero(module):
        remedy = "Make the manifold by from_raw, PoincareBall.from_raw(raw) for example, which takes its softplus"
        return Cause(f"the raw curvature taken for c, which gives no numbers below 0 ({raw})", remedy)
    return Cause(
        "a division by 0, or a root of less than 0: JAX is not finite where torch is", "Look for the first one with jax_debug_nans"
    )


def _named(factor: float, sizes: Sequence[int], curvatures: Sequence[float]) -> str:
    if abs(factor + 1) < NEAR:
        return "-1 (the sign)"
    for name, value in factors(curvatures, sizes).items():
        for sign, text in ((1, name), (-1, f"-{name}")):
            if abs(factor - sign * value) <= NEAR * abs(value):
                return text if text == f"{factor:.6g}" else f"{text} ({factor:.6g})"
    return f"{factor:.6g}"


def of_module(module: TorchModule, run: Callable[[TorchModule], np.ndarray], ours: np.ndarray, below: str,
              curvatures: Sequence[float] = ()) -> Cause | None:  # fmt: skip
    """The planted error with which the torch module gives `ours`: in the parameters below this name, in its curvatures or mode, or in what
    flows through its code.

    run: what the module gives where the sides differ. The module is changed and restored.
    """
    goal = ours.astype(np.float64)
    if not np.isfinite(goal).all():
        return None
    for plant in plants(module, below, curvatures, lambda: run(module)):
        with restored(module), plant.made():
            try:
                found = run(module)
            except (RuntimeError, IndexError, ValueError):  # exchanged axes that do not fit what follows
                continue
        if _same(found.astype(np.float64), goal):
            return Cause(plant.kind, plant.remedy)
    return None


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    top = float(np.max(np.abs(b), initial=0)) or 1.0
    return a.shape == b.shape and bool(np.max(np.abs(a - b), initial=0) <= NEAR * top)


__all__ = ["Cause", "of_arrays", "of_module", "of_no_numbers"]
