"""Both sides in training: dropout with the same masks, the statistics of the batch, and what the running ones become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from weights.errors import Unmatched, Usage
from weights.mapping.entries import Entry, flatten
from weights.mapping.probes import Argument, Inputs, Outputs, for_jax
from weights.proof.flax_run import Run, named
from weights.proof.rows import Row, largest
from weights.proof.sides import Sides
from weights.types import TorchModule, Variables

MASKS = "masks of dropout"
GIVE = "Give it train={'train': True}, or as its flax module takes it"


@dataclass(frozen=True)
class Mask:
    """What torch multiplied by at one call of dropout: 0 or 1/(1 - rate)."""

    rate: float
    factors: np.ndarray


@dataclass(frozen=True)
class TrainingRun(Run):
    """The flax model in training. keywords: those of its call. rates: of torch's calls of dropout, in their order."""

    keywords: Mapping[str, Any] = field(default_factory=dict, compare=False)
    buffers: tuple[Entry, ...] = ()
    rates: tuple[float, ...] = ()

    def _called(self, variables: Variables, inputs: Inputs) -> Outputs:
        masks = list(zip(self.rates, inputs[MASKS]))
        told: list[Mapping[str, Any]] = []

        def call(method: str, *args: Argument) -> Any:
            if method != "__call__":
                raise Usage(f"training is compared by whole calls, not by {method!r}", "Leave train= out of the port")
            more = {"mutable": [name for name in variables if name != "params"], "rngs": {"dropout": jax.random.key(0)}, **self.keywords}
            apply = self.calling or (lambda model, variables, *args, **more: model.apply(variables, *args, **more))
            result = apply(self.model, variables, *args, **more)
            if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping)):
                raise Unmatched(f"in training call_jax gives no pair of outputs and variables ({self.at})", "Pass its keywords on to apply")
            told.append(result[1])
            return result[0]

        with nn.intercept_methods(_masking(masks, self.at)):
            outputs = named(self.probe.outputs(self.settings, call, inputs))
        flat = {**flatten(variables), **flatten(told[-1])}
        new = {f"new {e.key}": jax.lax.stop_gradient(e.layout.inverse(flat[str(e.path)], e.shape)) for e in self.buffers}
        return {**outputs, **new}


def _masking(masks: list[tuple[float, Any]], at: str) -> Callable[..., Any]:
    """Gives each call of flax's Dropout the next of these masks."""

    def seen(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if not isinstance(module, nn.Dropout) or context.method_name != "__call__":
            return call(*args, **kwargs)
        x = args[0] if args else kwargs["inputs"]
        still = args[1] if len(args) > 1 else kwargs.get("deterministic")
        if (module.deterministic if still is None else still) or module.rate == 0:
            return call(*args, **kwargs)
        name = "/".join(module.path)
        if not masks:
            raise Unmatched(f"{name} in flax drops where torch drops nothing ({at})", "Leave it out, or add it to the torch module")
        rate, factors = masks.pop(0)
        if abs(rate - module.rate) > 1e-9:
            raise Unmatched(f"{name} in flax has the rate {module.rate:g} where torch has {rate:g} ({at})", f"Write Dropout({rate:g})")
        if factors.shape != x.shape and factors.ndim > 2:
            factors = jax.numpy.moveaxis(factors, 1, -1)
        if factors.shape != x.shape:
            raise Unmatched(f"{name} in flax drops of {x.shape}, and torch of {factors.shape} ({at})", "Call them in the same order")
        return x * factors.astype(x.dtype)

    return seen


@dataclass
class Training(Sides):
    """Sides whose modules are in training. Outputs include the new running statistics. Masks are drawn by the number of the call."""

    @classmethod
    def of(cls, sides: Sides) -> Training:
        """The same sides in training."""
        return cls(**{f.name: getattr(sides, f.name) for f in fields(Sides)})

    @cached_property
    def masks(self) -> tuple[list[Mask], bool]:
        """Those of one forward pass, and whether the torch module draws other random numbers besides."""
        import torch

        module, masks = self.module(), []
        before = torch.get_rng_state()
        with _sharing(masks):
            super().run_torch(module)
        return masks, not torch.equal(before, torch.get_rng_state())

    @cached_property
    def _run(self) -> Run:
        port, told = self.port, self._told
        keywords = (port.train if port else None) or {}
        label = f"{told.pop('label')} in training, {sorted(keywords)!r}"
        rates = tuple(mask.rate for mask in self.masks[0])
        return TrainingRun(**told, label=label, keywords=keywords, buffers=self._buffers, rates=rates)

    @cached_property
    def _buffers(self) -> tuple[Entry, ...]:
        """Those that are floating-point variables in flax."""
        return tuple(e for e in self.checkpoint.entries if e.role == "buffer" and e.path and e.dtype.startswith(("float", "bfloat")))

    @cached_property
    def _for_jax(self) -> Inputs:
        return {**for_jax(self.inputs, self.dtype), MASKS: [jax.numpy.asarray(m.factors, self.dtype) for m in self.masks[0]]}

    def module(self, nudge: int = 0) -> TorchModule:
        """The torch module in training. With a nudge its submodules round their outputs otherwise, too.

        Statistics of a batch cancel most of what one unit in the last place of the parameters does; what rounding inside does to
        gradients is seen by rounding inside.
        """
        module = super().module(nudge).train()
        if nudge:
            import torch

            ways = torch.Generator().manual_seed(nudge)
            for child in module.modules():
                child.register_forward_hook(partial(_rounded, ways))
        return module

    def run_torch(self, module: TorchModule) -> Outputs:
        """The outputs with shared masks, and the buffers after the call."""
        with _sharing([]):
            outputs = super().run_torch(module)
        found = dict(module.named_buffers())
        return {**outputs, **{f"new {e.key}": found[e.key].clone() for e in self._buffers}}


def _rounded(ways: Any, module: TorchModule, given: object, result: Any) -> Any:
    """A submodule's output with each number moved by one unit in the last place up, down, or not at all, as the generator says."""
    import torch

    def moved(x: Any) -> Any:
        if not (isinstance(x, torch.Tensor) and x.is_floating_point()):
            return x
        return x * (1 + torch.finfo(x.dtype).eps * torch.randint(-1, 2, x.shape, generator=ways).to(x.dtype))

    return tuple(map(moved, result)) if type(result) is tuple else moved(result)


def unverified(sides: Sides, training: Training) -> list[Row]:
    """A row where training is another computation in torch and cannot be compared."""
    masks, more = training.masks
    if more:
        why = "the torch module draws other random numbers than dropout's: make them inputs of both sides"
    elif sides.port is None or sides.port.train is not None or not (masks or _differ(sides, training)):
        return []
    else:
        why = f"torch computes something else there, and the port does not say how to call it so. {GIVE}"
    return [Row(level="train", dtype="", what=f"training ({why})", error=0.0, gate=0.0, ok=True, verified=False)]


def _differ(sides: Sides, training: Training) -> bool:
    module = sides.module()
    theirs = sides.run_torch(module)
    other = training.run_torch(module.train())
    return any(largest(other[name].detach().numpy() - value.detach().numpy()) > 0 for name, value in theirs.items())


def _sharing(record: list[Mask]) -> AbstractContextManager[Any]:
    """Gives each call of torch's dropout in training a mask that depends on the number of the call, and records it."""
    import torch
    from torch.nn import functional as F
    from torch.overrides import TorchFunctionMode

    features = {F.dropout1d: 1, F.dropout2d: 2, F.dropout3d: 3, torch.feature_dropout: 0}

    class Sharing(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func not in (F.dropout, torch.dropout, *features):
                return func(*args, **kwargs)
            x = args[0] if args else kwargs["input"]
            rate = float(args[1] if len(args) > 1 else kwargs.get("p", 0.5))
            on = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", True))
            if not on or rate == 0:
                return x
            shape = tuple(x.shape)
            drawn = shape[:2] + (1,) * (x.ndim - 2) if func in features else shape
            keep = np.random.default_rng([7, len(record)]).random(drawn) >= rate
            record.append(Mask(rate, np.broadcast_to(keep / max(1 - rate, 1e-30), shape)))
            return x * torch.as_tensor(record[-1].factors.copy(), dtype=x.dtype)

    return Sharing()


__all__ = ["Training", "TrainingRun", "unverified"]
