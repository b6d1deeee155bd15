"""Riemannian Adam: geoopt's class, which `port_jax.optim.riemannian_adam` takes its numbers from, and the loops of geoopt's older versions.

For each parameter p of a group in turn, with its manifold M (Euclidean space for an ordinary tensor), its Euclidean gradient g, and t the
number of gradients that p has had:

    r = M.egrad2rgrad(p, g + weight_decay p)
    m = b1 m + (1 - b1) r
    v = b2 v + (1 - b2) M.component_inner(p, r)         <r, r>_p, one number a point, broadcast to p's shape
    v_hat = v, or the largest v so far with amsgrad
    d = (m / (1 - b1^t)) / (sqrt(v_hat / (1 - b2^t)) + eps)
    p, m = M.retr_transp(p, -lr d, m)

The order matters in four places:

- Weight decay comes before the metric, so that the inverse metric weighs it as well.
- amsgrad takes the maximum before the bias correction, and eps is added after it.
- m is transported as it stands, without its bias correction, along the step that it has caused.
- Parameters move one after the other. A curvature that is a parameter itself changes the manifold of those after it.

With `stabilize`, once the t of any parameter is a multiple of it, all points of the group go through `projx` and their m through `proju`,
after all of them have moved.

Becigneul and Ganea (Riemannian adaptive optimization methods, ICLR 2019, algorithm 1) have one v for each factor of a product of manifolds;
geoopt's factors are the rows of a tensor. The paper steps along the exponential, where geoopt retracts, always takes the maximum of v, and
has neither bias correction, nor eps, nor weight decay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import geoopt
import torch
from geoopt.optim import RiemannianAdam
from torch import Tensor

from reference_torch.optim.by_groups import Optimizer

FLAT = geoopt.Euclidean()


class Adam(Optimizer):
    """What the versions of RiemannianAdam share."""

    beside: Mapping[str, Any] = {}
    """What the original puts beside the moments and never changes."""
    stabilizes = True

    def __init__(self, params: Iterable[Any], lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, stabilize=None):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, defaults | ({"stabilize": stabilize} if self.stabilizes else {}))

    def moments(self, group: Mapping[str, Any], p: Tensor, r: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        """The first moments, and the second ones that the step is divided by."""
        (b1, b2), state = group["betas"], self.state[p]
        if not state:
            state.update(self.beside, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
            state.update({"max_exp_avg_sq": torch.zeros_like(p)} if group["amsgrad"] else {})
        m = state["exp_avg"] = b1 * state["exp_avg"] + (1 - b1) * r
        v = state["exp_avg_sq"] = b2 * state["exp_avg_sq"] + (1 - b2) * square
        if group["amsgrad"]:
            v = state["max_exp_avg_sq"] = torch.maximum(state["max_exp_avg_sq"], v)
        return m, v

    def stabilize(self, group: Mapping[str, Any]) -> None:
        """Points projected, and first moments to their tangent spaces, where the group's count says so."""
        if group["stabilize"] is not None and group["step"] % group["stabilize"] == 0:
            for p in group["params"]:
                if (M := getattr(p, "manifold", None)) is not None and self.state[p]:
                    p.copy_(M.projx(p))
                    self.state[p]["exp_avg"] = M.proju(p, self.state[p]["exp_avg"])


class OldGeoopt(Adam):
    """geoopt until 0.3.1: the group's count goes up before and after each bias correction; eps is added to the uncorrected root."""

    beside = {"step": 0}  # noqa: RUF012

    def move(self, group, given):
        (b1, b2), group["step"] = group["betas"], group.get("step", 0)
        for p, g, M in given:
            M = M or FLAT
            r = M.egrad2rgrad(p, g + group["weight_decay"] * p)
            m, v = self.moments(group, p, r, M.component_inner(p, r))
            group["step"] += 1
            size = group["lr"] * (1 - b2 ** group["step"]) ** 0.5 / (1 - b1 ** group["step"])
            new, self.state[p]["exp_avg"] = M.retr_transp(p, -size * m / (v.sqrt() + group["eps"]), m)
            p.copy_(new)
            group["step"] += 1
        self.stabilize(group)


class MiddleGeoopt(Adam):
    """geoopt 0.4.1 and 0.5.0: the group counts once an update, eps beside the corrected root."""

    decoupled = False

    def move(self, group, given):
        (b1, b2), group["step"] = group["betas"], group.get("step", 0) + 1
        for p, g, M in given:
            apart = self.decoupled and M is None
            M, decay = M or FLAT, group["weight_decay"] * p
            r = M.egrad2rgrad(p, g if apart else g + decay)
            m, v = self.moments(group, p, r, M.component_inner(p, r))
            d = m / (1 - b1 ** group["step"]) / ((v / (1 - b2 ** group["step"])).sqrt() + group["eps"])
            new, self.state[p]["exp_avg"] = M.retr_transp(p, -group["lr"] * (d + decay if apart else d), m)
            p.copy_(new)
        self.stabilize(group)


__all__ = ["Adam", "MiddleGeoopt", "OldGeoopt", "RiemannianAdam"]
