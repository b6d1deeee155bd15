"""Parameters of any module by its keys, points of geoopt's manifolds among them: what a converted tree is compared with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import geoopt
import torch
from torch import Tensor, nn

RAW = ("isp_c", "isp_k", "k")
"""Names of geoopt's raw curvatures; through softplus where they begin with isp."""


class Tree(nn.Module):
    """`shapes` by key. `manifolds` by key: the name of geoopt's class, and its curvature, None, or the key of its trained raw curvature.

    `fixed` keys take no gradient. `tied`: further keys of a tensor, and its first.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        manifolds: Mapping[str, tuple[str, float | str | None]],
        fixed: Collection[str],
        tied: Mapping[str, str] | None = None,
    ):
        super().__init__()
        self.keys, self.curved = [key for key in shapes if key not in fixed], {}
        found: dict[str, Any] = {key: nn.Parameter(torch.zeros(shape), requires_grad=key not in fixed) for key, shape in shapes.items()}
        for key, (kind, curvature) in manifolds.items():
            space = following(kind, found[curvature]) if isinstance(curvature, str) else made(kind, curvature)
            found[key] = geoopt.ManifoldParameter(torch.zeros(shapes[key]), manifold=space)  # pyright: ignore[reportCallIssue]
            self.curved[key] = space
        found |= {key: found[owner] for key, owner in (tied or {}).items() if owner in found}
        for key, parameter in found.items():
            *parents, name = key.split(".")
            owner: nn.Module = self
            for parent in parents:
                if parent not in dict(owner.named_children()):
                    owner.add_module(parent, nn.Module())
                owner = owner.get_submodule(parent)
            owner.register_parameter(name, parameter)

    def _apply(self, fn, recurse: bool = True):  # a parameter's manifold is no submodule, and follows its type all the same
        super()._apply(fn, recurse)
        for manifold in self.curved.values():
            manifold._apply(fn, recurse)
        return self

    def forward(self, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every parameter, and the squared distances of points to the targets of their keys."""
        found = dict(self.named_parameters())
        outputs: dict[str, Tensor] = {key: found[key] for key in self.keys}
        return {**outputs, **{f"{key} to targets": self.curved[key].dist2(found[key], target) for key, target in targets.items()}}


def following(name: str, raw: nn.Parameter) -> Any:
    """geoopt's manifold whose raw curvature is this parameter."""
    manifold: Any = getattr(geoopt, name)(learnable=True)
    own = next(own for own in RAW if own in dict(manifold.named_parameters()))
    setattr(manifold, own, raw)
    return manifold


def made(name: str, curvature: float | None) -> Any:
    """geoopt's manifold in double precision. softplus(isp_c) = c is inverted there: its own start is rounded to float32."""
    if curvature is None:
        return getattr(geoopt, name)()
    manifold: Any = getattr(geoopt, name)(curvature).double()
    raw = next(raw for raw in RAW if raw in dict(manifold.named_parameters()) | dict(manifold.named_buffers()))
    value = torch.tensor(curvature, dtype=torch.float64)
    with torch.no_grad():
        getattr(manifold, raw).copy_(value + torch.log(-torch.expm1(-value)) if raw.startswith("isp") else value)
    return manifold
