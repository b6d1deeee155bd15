"""Averages of weights: torch's AveragedModel, which `port_jax.optim.weight_average` takes its numbers on flat parameters from.

The first update copies the parameters. Later ones take the average a to a + (p - a) / n, or to decay a + (1 - decay) p with
`get_ema_multi_avg_fn(decay)`. Points on manifolds are averaged in their coordinates, which leaves the manifold; port_jax goes along
geodesics instead.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def averaged(run: Iterable[np.ndarray], decay: float | None) -> np.ndarray:
    """The average of the matrices of a run."""
    run = list(run)
    model = torch.nn.Linear(*run[0].shape[::-1], bias=False).double()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay) if decay else None)
    for weights in run:
        with torch.no_grad():
            model.weight.copy_(torch.tensor(weights))
        average.update_parameters(model)
    return next(average.module.parameters()).detach().numpy()


__all__ = ["AveragedModel", "averaged", "get_ema_multi_avg_fn"]
