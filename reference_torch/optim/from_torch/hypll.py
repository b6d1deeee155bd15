"""HypLL's optimizers on torch, from their mathematics.

A parameter may have a `man_dim`, the axis of one point, or the `manifold` of a geoopt.ManifoldParameter, a ball. Without that it is
flat. Settings, counts and buffers are named and kept as HypLL saves them, but for its classes around tensors.

RiemannianAdam, for each parameter in turn, with its gradient g and the number t of gradients that it has had:

    r = (g + weight_decay p)/lambda²                       without the metric where p is flat
    m = b1 m + (1 - b1) r
    v = b2 v + (1 - b2) lambda² Σ r²                       over man_dim, of an ordinary parameter over the last axis; v has p's shape
    p, m = exp_p(-lr d), PT m,  d = m/(1 - b1^t) / (sqrt(v/(1 - b2^t)) + eps)           the largest v so far with amsgrad

RiemannianSGD with momentum: the buffer b begins with the first g, before weight decay. Where p is flat, b = momentum b + (1 - dampening) r,
and p moves along b, or with nesterov along r + momentum b. On a ball that b is u = momentum b/lambda² + (1 - dampening) r instead, and
the buffer **stays the first gradient** for ever: each step scales it anew, by the metric where the point now is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from reference_torch.layers.hypll import exp, factor, transport
from reference_torch.optim.by_groups import Optimizer


def gradient(group: Mapping[str, Any], p: Tensor, g: Tensor, c: Tensor | None) -> Tensor:
    """The Riemannian gradient of the loss with weight decay."""
    g = g + group["weight_decay"] * p
    return g if c is None else g / factor(p, c) ** 2


def curvature(M: Any) -> Tensor | None:
    """c of a ball; None of nothing."""
    return None if M is None else M.c.detach()


class RiemannianAdam(Optimizer):
    """Adam with one second moment for each point."""

    def __init__(self, params: Iterable[Any], lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad})

    def move(self, group, given):
        """One step of a group."""
        b1, b2 = group["betas"]
        for p, g, M in given:
            c, state = curvature(M), self.state[p]
            if not state:
                state.update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
                state.update({"max_exp_avg_sq": torch.zeros_like(p)} if group["amsgrad"] else {})
            state["step"] += 1
            r = gradient(group, p, g, c)
            square = (r * r).sum(getattr(p, "man_dim", -1), keepdim=True) if p.dim() else r * r
            square = square if c is None else factor(p, c) ** 2 * square
            m = state["exp_avg"] = b1 * state["exp_avg"] + (1 - b1) * r
            v = state["exp_avg_sq"] = b2 * state["exp_avg_sq"] + (1 - b2) * square
            if group["amsgrad"]:
                v = state["max_exp_avg_sq"] = torch.maximum(state["max_exp_avg_sq"], v)
            d = m / (1 - b1 ** state["step"]) / ((v / (1 - b2 ** state["step"])).sqrt() + group["eps"])
            new = p - group["lr"] * d if c is None else exp(p, -group["lr"] * d, c)
            state["exp_avg"] = m if c is None else transport(p, new, m, c)
            p.copy_(new)


class RiemannianSGD(Optimizer):
    """Descent along geodesics, whose momentum on a ball is made of the first gradient."""

    def __init__(self, params: Iterable[Any], lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
        settings = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, settings)

    def move(self, group, given):
        """One step of a group."""
        for p, g, M in given:
            c, state, momentum = curvature(M), self.state[p], group["momentum"]
            r = gradient(group, p, g, c)
            along = r
            if momentum > 0:
                if not state:
                    state["momentum_buffer"] = g.clone()
                b = state["momentum_buffer"] if c is None else state["momentum_buffer"] / factor(p, c) ** 2
                b = momentum * b + (1 - group["dampening"]) * r
                along = r + momentum * b if group["nesterov"] else b
                if c is None:
                    state["momentum_buffer"] = b
            p.copy_(p - group["lr"] * along if c is None else exp(p, -group["lr"] * along, c))
