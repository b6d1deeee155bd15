"""A checkpoint of named points, as the authors of the Poincare embeddings write it."""

from __future__ import annotations

import geoopt
import torch

from parity_tests import draws

NAMES = ("mammal.n.01", 'sea "lion", brown', "chat\tnoir", "ß", "5", "dog house")


def points(n=6, d=3, scale=0.4, seed=0) -> torch.Tensor:
    """Points inside of the unit ball."""
    return scale * torch.randn(n, d, generator=draws.generator(seed), dtype=torch.float64) / d**0.5


def nouns(path, manifold="poincare", objects=NAMES):
    """A file as the Poincare embeddings' authors write it."""
    table = points()
    if manifold == "lorentz":
        table = geoopt.Lorentz(k=1.0).expmap0(torch.nn.functional.pad(table, (1, 0)))
    conf = {"manifold": manifold, "dim": 3, "model": "distance"}
    torch.save({"model": {"lt.weight": table}, "embeddings": table, "epoch": 3, "conf": conf, "objects": list(objects)}, path)
    return table
