"""torch's schedulers, which `port_jax.optim.schedules` takes its numbers from, and the loop that shows their rates.

torch's schedulers are recursions: each `step` changes the rate that the group has, so that two of them act on each other
(`ChainedScheduler`), and a rate that was set by hand is carried on. port_jax has closed forms of the number of steps, which agree as long
as nothing but the scheduler sets the rate.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)
from torch.optim.swa_utils import SWALR

from reference_torch.optim.cyclic_rates import CyclicLR, OneCycleLR


class LinearWarmupCosineDecayLR(LambdaLR):
    """MERU's: lr n/w for the first w steps, then lr cos²(π/2 (n - w)/(T - w)). Its state has T and w as `tsteps` and `wsteps`, and no
    function."""

    def __init__(self, optimizer: torch.optim.Optimizer, total_steps: int, warmup_steps: int):
        self.tsteps, self.wsteps = total_steps, warmup_steps
        super().__init__(optimizer, self._factor)

    def _factor(self, step: int) -> float:
        if step < self.wsteps:
            return step / self.wsteps
        return math.cos(math.pi / 2 * (step - self.wsteps) / (self.tsteps - self.wsteps)) ** 2


def rates(build: Callable[[torch.optim.Optimizer], Any], steps: int, lr: float, momentum: bool = False) -> np.ndarray:
    """The rate that each update would use, or the momentum beside it: a training loop that calls `scheduler.step()` after each update."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=lr, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = build(optimizer)
        found, momenta = [], []
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            momenta.append(optimizer.param_groups[0]["momentum"])
            optimizer.step()
            scheduler.step()
    return np.array(momenta if momentum else found)


__all__ = [
    "SWALR",
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "LinearWarmupCosineDecayLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "SequentialLR",
    "StepLR",
    "rates",
]
