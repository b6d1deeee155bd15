"""What a converted checkpoint consists of: the model in JAX, and everything that leads back to torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weights.files.source import Source
from weights.mapping.entries import Entry
from weights.mapping.port import Port
from weights.optim.plan import Plan
from weights.types import Config, Document, Hyperparameters, Manifolds, Model, NamedManifolds, OptState, Transformation, Variables


@dataclass(frozen=True)
class Contents:
    """The fields of a `Checkpoint`, in a class of their own so that the modules that save and export them need not import it.

    arch: the architecture's name. model: the flax module; None for "tree". variables: the argument of `model.apply`.
    optimizer, opt_state: an optax transformation over `variables["params"]` and its state; both None if the file has no optimizer or
    it was left out. constants: by key, the tensors of the file that are not variables. manifolds: a tree beside the parameters, or a
    function from the parameters to that tree. config, epoch: as in the file or the configuration. report: what each tensor, setting
    and optimizer became, as JSON.

    settings: the hyper-parameters from which the model is built. entries: what each key of the file became. plans: how each of the file's
    optimizers became a part of `optimizer`. source: the file's objects without the numbers.
    """

    arch: str
    model: Model | Any
    variables: Variables
    optimizer: Transformation | Any
    opt_state: OptState
    constants: dict[str, np.ndarray]
    manifolds: Manifolds
    config: Config
    epoch: int | None
    report: Document
    settings: Hyperparameters = field(repr=False)
    entries: list[Entry] = field(repr=False)
    plans: tuple[Plan, ...] = field(repr=False)
    source: Source = field(repr=False)
    given: NamedManifolds | None = field(repr=False, default=None)
    """The manifolds that the caller named."""
    port: Port | None = field(repr=False, default=None)
    """What the converter knows of the model: its architecture's, or the person's own; None for a tree of parameters."""

    @property
    def own_port(self) -> bool:
        """Whether the model is a person's own: no architecture is chosen by its name."""
        return self.port is not None and self.port.own

    @property
    def plan(self) -> Plan | None:
        """The only plan; None where there are none, or several."""
        return self.plans[0] if len(self.plans) == 1 else None


__all__ = ["Contents"]
