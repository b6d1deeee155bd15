"""Errors planted in a torch module, one at a time: curvatures, parameters, modes, norms, and what flows through its code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from weights.mapping.curvature_settings import from_raw, softplus
from weights.proof.changes import changes, exchanges
from weights.proof.sites import Sites
from weights.types import TorchModule

RAW = ("isp_c", "isp_k")
EPSILONS = (1e-3, 1e-5, 1e-6, 1e-8, 1e-12, 0.0)
NEAR = 1e-9
"""A curvature that is this near to the right one would plant nothing."""


@dataclass(frozen=True)
class Plant:
    """An error in words, what to do about it, and what makes the module have it as long as it is entered."""

    kind: str
    remedy: str
    made: Callable[[], AbstractContextManager[Any]]


def plants(module: TorchModule, below: str, curvatures: Sequence[float], run: Callable[[], Any]) -> Iterator[Plant]:
    """All of them, the likely ones first. below: the name of the module in which the error has to be; empty for anywhere. run: a forward
    pass, in which the sites are found.
    """
    yield from of_curvatures(module)
    yield from of_parameters(module, below)
    yield of_mode(module)
    yield from of_norms(module, below)
    yield from of_sites(module, curvatures, run)


def curvatures_of(module: TorchModule) -> list[float]:
    """The c of each of geoopt's manifolds in the module: minus their curvature."""
    found = set()
    for child in module.modules():
        if hasattr(child, "egrad2rgrad") and getattr(child, "k", None) is not None:
            k = abs(float(child.k.detach().reshape(-1)[0]))
            found.add(round(1 / k if type(child).__name__ == "Lorentz" else k, 12))
    return sorted(found)


def raw_below_zero(module: TorchModule) -> str | None:
    """A raw curvature below 0, and its key: taken for c, it gives no number at all."""
    named = [*module.named_parameters(), *module.named_buffers()]
    raws = ((key, float(t.detach().reshape(-1)[0])) for key, t in named if key.rpartition(".")[2] in RAW and t.numel() == 1)
    return next((f"{key} is {raw:.6g}" for key, raw in raws if raw <= 0), None)


def of_curvatures(module: TorchModule) -> Iterator[Plant]:
    """Each curvature of geoopt's manifolds taken for another number."""
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
                yield Plant(f"{what} ({key} gives {c:.6g})", "Give the manifold the file's curvature", _set(tensor, 0 * tensor + stored))


def of_parameters(module: TorchModule, below: str) -> Iterator[Plant]:
    """Each parameter transposed, with the other sign, missing, with a factor, with halves or axes exchanged."""
    for key, parameter in module.named_parameters():
        if (below and not key.startswith(f"{below}.")) or key.rpartition(".")[2] in (*RAW, "k"):
            continue
        value = parameter.detach().clone()
        if value.ndim >= 2 and value.shape[-1] == value.shape[-2]:
            remedy = "Correct the rule's layout, or the product in the flax module"
            yield Plant(f"{key} transposed", remedy, _set(parameter, value.mT.clone()))
        yield Plant(f"{key} with the other sign", "Change the sign where the flax module uses it", _set(parameter, -value))
        yield Plant(f"{key} missing (zero gives the same)", "Add it in the flax module", _set(parameter, 0 * value))
        if callable(origin := getattr(getattr(parameter, "manifold", None), "origin", None)):
            none: Any = origin(*value.shape, dtype=value.dtype).detach()  # pyright: ignore[reportAttributeAccessIssue]
            if bool((none != 0).any()):
                yield Plant(f"{key} missing (the origin gives the same)", "Add it in the flax module", _set(parameter, none))
        for name, factor in (("2", 2.0), ("1/2", 0.5)):
            yield Plant(f"a factor of {name} at {key}", "Remove the factor in the flax module", _set(parameter, factor * value))
        for what, change in exchanges(tuple(value.shape)):
            if what != "axes exchanged":  # those are a square weight transposed
                yield Plant(f"{what} at {key}", "Exchange them back", _set(parameter, change(value).clone()))


def of_mode(module: TorchModule) -> Plant:
    """Training for evaluation, or evaluation for training."""
    if module.training:
        return Plant("evaluation mode in the place of training", "Call the flax module as it is in training", lambda: _mode(module, False))
    return Plant("training mode in the place of evaluation", "Call the flax module as it is in evaluation", lambda: _mode(module, True))


def of_norms(module: TorchModule, below: str) -> Iterator[Plant]:
    """Another epsilon, and variances over N in the place of N - 1, or the other way round."""
    for name, child in module.named_modules():
        if below and name != below and not name.startswith(f"{below}."):
            continue
        if isinstance(getattr(child, "eps", None), float):
            for eps in EPSILONS:
                if eps != child.eps:
                    kind = f"epsilon {eps:g} in the place of {child.eps:g} in {name}"
                    yield Plant(kind, f"Give epsilon={child.eps:g}", _attribute(child, eps))
        words = f"in the variance of {name}"
        if getattr(child, "running_var", None) is not None:
            remedy = "port_jax.layers.BatchNorm has torch's running variance"
            yield Plant(f"N in the place of N - 1 {words}", remedy, lambda c=child: _hook(c, _by_n))
            yield Plant(f"N - 1 in the place of N {words}", "Divide by the number of rows", lambda c=child: _hook(c, _batch_unbiased))
        if type(child).__name__ == "LayerNorm":
            yield Plant(f"N - 1 in the place of N {words}", "Divide by the number of features", lambda c=child: _hook(c, _layer_unbiased))


def of_sites(module: TorchModule, curvatures: Sequence[float], run: Callable[[], Any]) -> Iterator[Plant]:
    """Each change of numbers at each site of the forward pass."""
    seen = Sites()
    with restored(module), seen.watching(module):
        run()
    for number, site in enumerate(seen.seen):
        for what, change in changes(site.shape, curvatures, site.sizes):
            kind, remedy = f"{what} at {site.what}", "Compare that line with the port's"
            yield Plant(kind, remedy, lambda number=number, change=change: Sites(number, change).watching(module))


@contextmanager
def restored(module: TorchModule) -> Iterator[None]:
    """Keeps mode and buffers, which a forward pass in training changes."""
    before, mode = {name: tensor.detach().clone() for name, tensor in module.named_buffers()}, module.training
    try:
        yield
    finally:
        module.train(mode)
        for name, tensor in module.named_buffers():
            tensor.data.copy_(before[name])


def _set(tensor: Any, value: Any) -> Callable[[], AbstractContextManager[Any]]:
    @contextmanager
    def made() -> Iterator[None]:
        before = tensor.detach().clone()
        tensor.data.copy_(value)
        try:
            yield
        finally:
            tensor.data.copy_(before)

    return made


def _attribute(child: TorchModule, eps: float) -> Callable[[], AbstractContextManager[Any]]:
    @contextmanager
    def made() -> Iterator[None]:
        before, child.eps = child.eps, eps
        try:
            yield
        finally:
            child.eps = before

    return made


def _mode(module: TorchModule, training: bool) -> AbstractContextManager[Any]:
    module.train(training)
    return nullcontext()  # `restored` sets it back


@contextmanager
def _hook(child: TorchModule, change: Callable[..., Any]) -> Iterator[None]:
    """The result of the child replaced by change(child, its input, its result, its running variance before)."""
    before: list[Any] = []
    with ExitStack() as stack:
        keep = lambda c, given: before.append(None if getattr(c, "running_var", None) is None else c.running_var.clone())  # noqa: E731
        stack.callback(child.register_forward_pre_hook(keep).remove)
        stack.callback(child.register_forward_hook(lambda c, given, result: change(c, given[0], result, before[-1])).remove)
        yield


def _by_n(child: Any, x: Any, result: Any, before: Any) -> Any:
    """torch's running variance is that of N - 1; in training."""
    if child.training:
        momentum, rows = child.momentum or 0.1, x.numel() // x.shape[1]
        child.running_var -= (child.running_var - (1 - momentum) * before) / rows
    return result


def _batch_unbiased(child: Any, x: Any, result: Any, before: Any) -> Any:
    """Normalised by the variance of N - 1: the batch's in training, and as if it had been the running one's factor in evaluation."""
    rows = x.numel() // x.shape[1]
    axes = [0, *range(2, x.ndim)]
    var = x.var(axes, unbiased=False) if child.training else before
    ratio = ((var + child.eps) / (var * rows / (rows - 1) + child.eps)).sqrt().reshape(1, -1, *[1] * (x.ndim - 2))
    shift = 0 if child.bias is None else child.bias.reshape(ratio.shape)
    return (result - shift) * ratio + shift


def _layer_unbiased(child: Any, x: Any, result: Any, before: Any) -> Any:
    axes = list(range(-len(child.normalized_shape), 0))
    y = (x - x.mean(axes, keepdim=True)) / (x.var(axes, unbiased=True, keepdim=True) + child.eps).sqrt()
    return y if child.weight is None else y * child.weight + (0 if child.bias is None else child.bias)


__all__ = ["Plant", "curvatures_of", "plants", "raw_below_zero", "restored"]
