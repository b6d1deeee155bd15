"""The rate that follows a metric: torch's scheduler, which `port_jax.optim.reduce_on_plateau` takes its numbers from, and its loop.

At each `step(metric)`, with `worse` the number of steps without improvement:

    better                      "min"                           "max"
        "rel"                   metric < best (1 - threshold)   metric > best (1 + threshold)
        "abs"                   metric < best - threshold       metric > best + threshold
    worse = 0 where better, else worse + 1; during a cooldown it is 0 and the cooldown one shorter
    where worse > patience: rate = max(factor rate, min_lr), if that lowers it by more than eps; then the cooldown begins and worse = 0

A metric that is NaN is not better.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau


def rates(metrics: Iterable[float], lr: float, **options: Any) -> np.ndarray:
    """The rate before each of the metrics is told."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=lr)
    scheduler = ReduceLROnPlateau(optimizer, **options)
    found = []
    for metric in metrics:
        found.append(optimizer.param_groups[0]["lr"])
        scheduler.step(metric)
    return np.array(found)


__all__ = ["ReduceLROnPlateau", "rates"]
