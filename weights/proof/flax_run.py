"""The flax model of a comparison as one function of its variables, and the programs that are compiled of it: outputs, gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from weights.errors import ConversionError, Unmatched
from weights.mapping.flax_modules import said
from weights.mapping.probes import Argument, Inputs, Outputs, Probe
from weights.proof.trees import Points
from weights.types import Hyperparameters, Model, Variables

QUICK: dict[str, int | bool] = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""A model is run a dozen times here: what takes the time is compiling it."""
if version("jaxlib").startswith("0.10."):  # later ones refuse the option
    QUICK["xla_cpu_use_fusion_emitters"] = False
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Run:
    """The flax model on the probe; equal for equal models, so that one compilation serves all comparisons of one model."""

    probe: Probe
    settings: Hyperparameters = field(compare=False)
    model: Model | Points = field(compare=False)
    label: str
    calling: Callable[..., Any] | None = None
    """How a person's port calls the whole model."""
    at: str = ""
    """The place of a person's port; empty for an architecture."""

    def __call__(self, variables: Variables, inputs: Inputs) -> Outputs:
        try:
            return self._called(variables, inputs)
        except ConversionError:
            raise
        except Exception as error:
            if not self.at:  # an architecture's errors are those of the program
                raise
            raise Unmatched(
                f"the model cannot be applied to the converted variables: {said(error)} ({self.at})",
                "Call it in evaluation, by the defaults of its arguments or by call_jax=(model, variables, *inputs) of the port",
            ) from None

    def _called(self, variables: Variables, inputs: Inputs) -> Outputs:
        def call(method: str, *args: Argument) -> Argument:
            if self.calling is not None and method == "__call__":
                return self.calling(self.model, variables, *args)
            return self.model.apply(variables, *args, method=method)

        return named(self.probe.outputs(self.settings, call, inputs))


@partial(jax.jit, static_argnames="run")
def outputs(run: Run, variables: Variables, inputs: Inputs) -> Outputs:
    """Traced once for shapes, outputs and gradients."""
    return run(variables, inputs)


@partial(jax.jit, static_argnames="run", compiler_options=QUICK)
def forward(run: Run, variables: Variables, inputs: Inputs) -> Outputs:
    """Outputs alone, which compile sooner."""
    return run(variables, inputs)


@partial(jax.jit, static_argnames="run", compiler_options=QUICK)
def pull(run: Run, variables: Variables, inputs: Inputs, weights: Arrays, targets: Arrays, strength: float) -> tuple[Outputs, Variables]:
    """Outputs, and the gradient of sum(weights * outputs) + strength * mean((outputs - targets)^2): one compilation for all levels."""
    ours, back = jax.vjp(lambda v: outputs(run, v, inputs), variables)
    pulls = {k: weights[k] + 2 * strength / v.size * (v - targets[k]) for k, v in ours.items()}
    return ours, back({k: pull.astype(ours[k].dtype) for k, pull in pulls.items()})[0]


def named(outputs: Outputs) -> Outputs:
    """Outputs that are tuples, each part by a name of its own."""
    named: Outputs = {}
    for name, value in outputs.items():
        named.update({f"{name}.{i}": part for i, part in enumerate(value)} if isinstance(value, tuple) else {name: value})
    return named


__all__ = ["QUICK", "Arrays", "Run", "forward", "named", "outputs", "pull"]
