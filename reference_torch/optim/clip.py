"""Clipping of gradients: torch's functions, which `port_jax.optim.clip` takes its numbers from, and gradients clipped by them.

    clip_grad_norm_     all gradients times min(1, max_norm / (norm + 1e-6)), with the p-norm of the vector of the gradients' own p-norms
    clip_grad_value_    each entry into [-clip_value, clip_value]

Both change `p.grad` in place, and know nothing of manifolds: the norm is that of coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_


def clipped(function: Callable[..., Any], gradients: Iterable[np.ndarray], *args: Any) -> list[np.ndarray]:
    """The gradients after `function(parameters, *args)`."""
    given = [torch.tensor(g) for g in gradients]
    params = [torch.nn.Parameter(torch.zeros_like(g)) for g in given]
    for p, g in zip(params, given, strict=True):
        p.grad = g
    function(params, *args)
    return [g.numpy() for g in given]


__all__ = ["clip_grad_norm_", "clip_grad_value_", "clipped"]
