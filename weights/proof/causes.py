"""What kind of error a difference looks like: errors are planted on the side of torch until it computes what the port does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from weights.mapping.curvature_settings import from_raw, softplus
from weights.types import TorchModule

RAW = ("isp_c", "isp_k")
NEAR = 1e-6
"""Relative: an error that was guessed right is reproduced to the gate, one that was not is far off."""


@dataclass(frozen=True)
class Cause:
    """A kind of error in words, and what to do about it."""

    kind: str
    remedy: str


def of_arrays(theirs: np.ndarray, ours: np.ndarray, curvatures: Sequence[float] = ()) -> Cause | None:
    """What the values alone show: a sign, a factor, exchanged axes or halves. None where they show nothing."""
    theirs, ours = theirs.astype(np.float64), ours.astype(np.float64)
    if theirs.ndim >= 2 and theirs.shape[-1] == theirs.shape[-2] and _same(np.swapaxes(theirs, -1, -2), ours):
        return Cause("axes exchanged", "Exchange the last two axes")
    width = theirs.shape[-1] if theirs.ndim else 0
    if width > 1 and width % 2 == 0 and _same(np.roll(theirs, width // 2, -1), ours):
        return Cause("halves exchanged", "Exchange the two halves of the last axis")
    large = np.abs(theirs) > 1e-3 * np.max(np.abs(theirs), initial=0)
    if not large.any():
        return None
    ratios = ours[large] / theirs[large]
    factor = float(np.median(ratios))
    if np.max(np.abs(ratios - factor)) > NEAR * max(abs(factor), 1e-30) or abs(factor - 1) < NEAR:
        return None
    return Cause(f"a factor of {_named(factor, len(theirs), curvatures)}", "Multiply by its inverse, or remove it")


def _named(factor: float, rows: int, curvatures: Sequence[float]) -> str:
    if abs(factor + 1) < NEAR:
        return "-1 (the sign)"
    known: dict[str, float] = {"2": 2.0, "1/2": 0.5, "4": 4.0, "1/4": 0.25}
    if rows > 1:
        known |= {"(N - 1) / N": (rows - 1) / rows, "N / (N - 1)": rows / (rows - 1)}
    for c in curvatures:
        known |= {"c": c, "1/c": 1 / c, "sqrt c": abs(c) ** 0.5, "1 / sqrt c": abs(c) ** -0.5}
    for name, value in known.items():
        for sign, text in ((1, name), (-1, f"-{name}")):
            if abs(factor - sign * value) <= NEAR * abs(value):
                return text if text == f"{factor:.6g}" else f"{text} ({factor:.6g})"
    return f"{factor:.6g}"


def of_module(module: TorchModule, run: Callable[[TorchModule], np.ndarray], ours: np.ndarray, below: str) -> Cause | None:
    """The planted error with which the torch module gives `ours`: in the parameters below this name, in its curvatures, or in its mode.

    run: what the module gives where the sides differ. The module is changed and restored.
    """
    for kind, remedy, plant in (*_curvatures(module), *_parameters(module, below), *_modes(module, below)):
        restore = plant()
        try:
            found = run(module)
        finally:
            restore()
        if _same(found.astype(np.float64), ours.astype(np.float64)):
            return Cause(kind, remedy)
    return None


Plant = tuple[str, str, Callable[[], Callable[[], None]]]


def _parameters(module: TorchModule, below: str) -> Iterator[Plant]:
    for key, parameter in module.named_parameters():
        if (below and not key.startswith(f"{below}.")) or key.rpartition(".")[2] in (*RAW, "k"):
            continue
        value = parameter.detach().clone()
        flat = value.reshape(-1) if value.ndim < 2 else value
        if value.ndim >= 2 and value.shape[-1] == value.shape[-2]:
            yield f"{key} transposed", "Correct the rule's layout, or the product in the flax module", _set(parameter, value.mT.clone())
        yield f"{key} with the other sign", "Change the sign where the flax module uses it", _set(parameter, -value)
        yield f"{key} missing (zero gives the same)", "Add it in the flax module", _set(parameter, 0 * value)
        for name, factor in (("2", 2.0), ("1/2", 0.5)):
            yield f"a factor of {name} at {key}", "Remove the factor in the flax module", _set(parameter, factor * value)
        for axis in range(flat.ndim):
            size = flat.shape[axis]
            if size > 1 and size % 2 == 0:
                turned = flat.roll(size // 2, axis).reshape(value.shape)
                yield f"the halves of {key} exchanged (axis {axis})", "Exchange them back", _set(parameter, turned)


def _curvatures(module: TorchModule) -> Iterator[Plant]:
    seen: set[int] = set()
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    for key, tensor in named:
        name = key.rpartition(".")[2]
        if name not in (*RAW, "k") or tensor.numel() != 1 or tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        raw = float(tensor.detach().reshape(-1)[0])
        c = from_raw(name, raw)
        others = {"1 in the place of c": 1.0, "1/c": 1 / c, "sqrt c": abs(c) ** 0.5, "c squared": c * c, "2 c": 2 * c, "c / 2": c / 2}
        others |= {"softplus of the curvature": softplus(raw)} if name == "k" else {"the raw curvature taken for c": raw}
        for what, value in others.items():
            if abs(value - c) > NEAR and (value > 0 or name == "k"):
                stored = np.log(np.expm1(value)) if name in RAW else value
                yield f"{what} ({key} gives {c:.6g})", "Give the manifold the file's curvature", _set(tensor, 0 * tensor + stored)


def _modes(module: TorchModule, below: str) -> Iterator[Plant]:
    yield "training mode in the place of evaluation", "Call the flax module as it is in evaluation", _mode(module)
    for name, child in module.named_modules():
        if (not below or name == below) and isinstance(getattr(child, "eps", None), float):
            for eps in {1e-3, 1e-5, 1e-6, 1e-8, 1e-12, 0.0} - {child.eps}:
                yield f"epsilon {eps:g} in the place of {child.eps:g} in {name}", f"Give epsilon={child.eps:g}", _attribute(child, eps)


def _set(tensor: Any, value: Any) -> Callable[[], Callable[[], None]]:
    def plant() -> Callable[[], None]:
        before = tensor.detach().clone()
        tensor.data.copy_(value)
        return lambda: tensor.data.copy_(before)

    return plant


def _mode(module: TorchModule) -> Callable[[], Callable[[], None]]:
    def plant() -> Callable[[], None]:
        before = {name: tensor.detach().clone() for name, tensor in module.named_buffers()}
        module.train()

        def restore() -> None:
            module.eval()
            for name, tensor in module.named_buffers():
                tensor.data.copy_(before[name])

        return restore

    return plant


def _attribute(child: TorchModule, eps: float) -> Callable[[], Callable[[], None]]:
    def plant() -> Callable[[], None]:
        before, child.eps = child.eps, eps
        return lambda: setattr(child, "eps", before)

    return plant


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    top = float(np.max(np.abs(b), initial=0)) or 1.0
    return a.shape == b.shape and bool(np.max(np.abs(a - b), initial=0) <= NEAR * top)


__all__ = ["Cause", "of_arrays", "of_module"]
