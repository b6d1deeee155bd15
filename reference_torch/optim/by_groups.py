"""What the loops written here share: an optimizer that moves the parameters of one group at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Optimizer(torch.optim.Optimizer):
    """`move` is given a group, and (parameter, gradient, manifold or None) for each of its parameters that has a gradient."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            self.move(group, [(p, p.grad, getattr(p, "manifold", None)) for p in group["params"] if p.grad is not None])

    def move(self, group: dict[str, Any], given: list[tuple[Tensor, Tensor, Any]]) -> None:
        raise NotImplementedError
