"""What an error may do to numbers, in words and as a function: signs, factors, halves and axes exchanged. For arrays of numpy and torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from weights.proof.sites import Change


def factors(curvatures: Sequence[float], sizes: Sequence[int]) -> dict[str, float]:
    """The factors that errors have, by their names; c is the curvature of the ball, and 1/k of a hyperboloid."""
    found: dict[str, float] = {"2": 2.0, "1/2": 0.5, "4": 4.0, "1/4": 0.25}
    for c in curvatures:
        found |= {"c": c, "1/c": 1 / c, "sqrt c": abs(c) ** 0.5, "1 / sqrt c": abs(c) ** -0.5}
    for n in sizes:
        if n > 2:  # for two rows they are 1/2 and 2
            found |= {f"(N - 1) / N for N = {n}": (n - 1) / n, f"N / (N - 1) for N = {n}": n / (n - 1)}
    return found


def exchanges(shape: Sequence[int]) -> Iterator[tuple[str, Change]]:
    """Halves of an axis, the last two axes where they are equally long, and the order of two factors of the last axis."""
    if len(shape) > 1 and shape[-1] == shape[-2] > 1:
        yield "axes exchanged", lambda x: x.swapaxes(-1, -2)
    for axis in {0, len(shape) - 1} if len(shape) > 1 else range(len(shape)):
        if (size := shape[axis]) > 1 and size % 2 == 0:
            yield "halves exchanged", lambda x, axis=axis, size=size: rolled(x, size // 2, axis)
    width = shape[-1] if shape else 0
    for a in range(2, width // 2 + 1):
        if width % a == 0 and (b := width // a) > 1:
            yield f"axes exchanged ({a} x {b} in torch, {b} x {a} in JAX)", lambda x, a=a, b=b: reordered(x, a, b)


def rolled(x: Any, by: int, axis: int) -> Any:
    """x with the entries of an axis moved round."""
    return x.roll(by, axis) if hasattr(x, "detach") else np.roll(x, by, axis)


def reordered(x: Any, a: int, b: int) -> Any:
    """x with its last axis taken for [a, b] and transposed."""
    return x.reshape(*x.shape[:-1], a, b).swapaxes(-1, -2).reshape(x.shape)


def changes(shape: Sequence[int], curvatures: Sequence[float], sizes: Sequence[int]) -> Iterator[tuple[str, Change]]:
    """All of them, by what they are called."""
    yield "the other sign", lambda x: -x
    for name, factor in factors(curvatures, sizes).items():
        yield f"a factor of {name}", lambda x, factor=factor: factor * x
    yield from exchanges(shape)


__all__ = ["changes", "exchanges", "factors", "reordered", "rolled"]
