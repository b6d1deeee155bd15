"""The manifold of a model, of fixed curvature or of one that is trained in the raw form of the torch original."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.manifolds import Lorentz, Manifold, PoincareBall

__all__ = ["KINDS", "Curved", "Raw", "manifold_of"]


class Raw(NamedTuple):
    """How geoopt stores a manifold's curvature: the parameter's name, and the maps between it and the curvature."""

    name: str
    manifold: Callable[..., Manifold]
    fixed: Callable[..., Manifold]
    start: Callable[[float], Float[Array, ""] | float]


KINDS: Mapping[str, Raw] = {
    "PoincareBall": Raw("isp_c", PoincareBall.from_raw, PoincareBall, lambda c: PoincareBall(c).isp_c),
    "Lorentz": Raw("k", Lorentz, Lorentz, lambda k: k),
}


def manifold_of(kind: str, curvature: float, raw: Mapping[str, Float[Array, ""]] | None = None) -> Manifold:
    """The manifold at the trained raw parameter if there is one, else of the fixed curvature (c on the ball, k on the hyperboloid)."""
    form = KINDS[kind]
    return form.fixed(curvature) if raw is None else form.manifold(raw[form.name])


class Curved(nn.Module):
    """A manifold inside a model. If it is learnable, its raw curvature is the parameter `isp_c` (c = softplus(isp_c)) or `k`."""

    kind: str
    curvature: float
    learnable: bool = False

    @nn.compact
    def __call__(self) -> Manifold:
        form = KINDS[self.kind]
        if not self.learnable:
            return form.fixed(self.curvature)
        raw = self.param(form.name, lambda _key: jnp.asarray(form.start(self.curvature), jnp.float32))
        return form.manifold(raw)
