"""`reference_torch.optim.torch_dialects` on bare tensors and given gradients."""

from __future__ import annotations

from typing import Any

import geoopt
import numpy as np
import torch

from reference_torch.optim import torch_dialects


class Loop:
    """An optimizer over `params`, tensors that it changes in place. points: their manifolds, or None for flat ones."""

    kind: Any

    def __init__(self, params, points, **settings):
        self.params = params
        moved = [torch.nn.Parameter(p) if M is None else geoopt.ManifoldParameter(p, manifold=M) for p, M in zip(params, points)]
        self.moved: Any = moved
        usual = {"lr": 0.03}
        if issubclass(self.kind, torch_dialects.Adam):
            usual = {**usual, "betas": (0.8, 0.97), "eps": 1e-3, "weight_decay": 0.1}
        self.optimizer = self.kind(moved, **{**usual, **settings})

    def step(self, grads):
        for p, g in zip(self.moved, grads, strict=True):
            p.grad = g
        self.optimizer.step()

    def state_dict(self):
        return self.optimizer.state_dict()


class OldGeoopt(Loop):
    kind = torch_dialects.OldGeoopt


class MiddleGeoopt(Loop):
    kind = torch_dialects.MiddleGeoopt


class Hybonet(Loop):
    kind = torch_dialects.Hybonet


class HGCN(Loop):
    kind = torch_dialects.HGCN


class MuRP(Loop):
    kind = torch_dialects.MuRP


class PoincareEmbeddings(Loop):
    kind = torch_dialects.PoincareEmbeddings


def tensors(rng: np.random.Generator, manifold, shapes):
    """Five points of the manifold of three coordinates (on the hyperboloid time before them), and flat tensors of these shapes."""
    points = torch.tensor(0.5 * rng.normal(size=(5, 3)) / np.sqrt(3))
    if isinstance(manifold, geoopt.PoincareBall):
        points = 0.8 * points / manifold.c**0.5
    else:
        points = torch.cat([(manifold.k + (points * points).sum(-1, keepdim=True)).sqrt(), points], -1)
    return [points, *(torch.tensor(rng.normal(size=shape)) for shape in shapes)]
