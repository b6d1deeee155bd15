"""The optimizers of repositories, on torch, from their mathematics.

They move what carries a `manifold` on it (geoopt.ManifoldParameter), all else flat. Their settings, counts and buffers are named and
kept as the originals save them, so that an original's state_dict loads. geoopt's own, its older versions included, are in
`reference_torch.optim`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import geoopt
import torch
from torch import Tensor

from reference_torch.optim.by_groups import Optimizer
from reference_torch.optim.from_torch import hypll
from reference_torch.optim.riemannian_adam import Adam, MiddleGeoopt, OldGeoopt, RiemannianAdam
from reference_torch.optim.riemannian_sgd import RiemannianSGD

TINY = 1e-15


def add(x: Tensor, y: Tensor, c: Any) -> Tensor:
    """Moebius addition on the ball of curvature -c."""
    xy, x2, y2 = (x * y).sum(-1, keepdim=True), (x * x).sum(-1, keepdim=True), (y * y).sum(-1, keepdim=True)
    return ((1 + 2 * c * xy + c * y2) * x + (1 - c * x2) * y) / (1 + 2 * c * xy + c**2 * x2 * y2)


def factor(x: Tensor, c: Any) -> Tensor:
    """lambda_x."""
    return 2 / (1 - c * (x * x).sum(-1, keepdim=True))


def exp(x: Tensor, u: Tensor, c: Any) -> Tensor:
    """x + tanh(sqrt(c) lambda_x |u| / 2) u / (sqrt(c) |u|), by Moebius addition."""
    length = u.norm(dim=-1, keepdim=True).clamp_min(TINY)
    return add(x, torch.tanh(c**0.5 * factor(x, c) * length / 2) * u / (c**0.5 * length), c)


def transport(x: Tensor, y: Tensor, u: Tensor, c: Any) -> Tensor:
    """gyr[y, -x] u lambda_x / lambda_y, with gyr[a, b] u = -(a + b) + (a + (b + u)) by Moebius additions."""
    return add(-add(y, -x, c), add(y, add(-x, u, c), c), c) * factor(x, c) / factor(y, c)


class Hybonet(MiddleGeoopt):
    """fully-hyperbolic-nn: flat parameters decay outside of their moments; a 0 beside each parameter."""

    decoupled = True
    beside = {"step": 0}  # noqa: RUF012


class HGCN(Adam):
    """HazyResearch/hgcn: counts as geoopt until 0.3.1, second moments by rows, geodesic steps on balls, no stabilisation."""

    beside = {"step": 0}  # noqa: RUF012
    stabilizes = False

    def move(self, group, given):
        """One step; the second moment is that of the Riemannian norm in each row."""
        (b1, b2), group["step"] = group["betas"], group.get("step", 0)
        for p, g, M in given:
            c = None if M is None or isinstance(M, geoopt.Euclidean) else M.c.detach().to(p.dtype)
            g = g + group["weight_decay"] * p
            r = g if c is None else g / factor(p, c) ** 2
            rows = (r * r).sum(-1, keepdim=True) if r.dim() else r * r
            m, v = self.moments(group, p, r, rows.expand_as(p) if c is None else factor(p, c) ** 2 * rows)
            t = group["step"] + 1
            u = -group["lr"] * (1 - b2**t) ** 0.5 / (1 - b1**t) * m / (v.sqrt() + group["eps"])
            new = p + u if c is None else exp(p, u, c)
            self.state[p]["exp_avg"] = m if c is None else transport(p, new, m, c)
            p.copy_(new)
            group["step"] += 2


class MuRP(Optimizer):
    """multirelational-poincare: gradient descent along geodesics of the ball of curvature -1."""

    def __init__(self, params: Iterable[Any], lr=1e-3):
        super().__init__(params, {"lr": lr})

    def move(self, group, given):
        """One step along the exponential map of the unit ball."""
        for p, g, M in given:
            p.copy_(p - group["lr"] * g if M is None else exp(p, -group["lr"] * g / factor(p, 1.0) ** 2, 1.0))


class PoincareEmbeddings(Optimizer):
    """poincare-embeddings: x + u on the ball; cosh(t) x + sinh(t) u/|u|, t = min(|u|, 1), on the hyperboloid x0^2 = 1 + |xs|^2.

    sparse: gradients of balls are shortened to length 5, as the original does with those of sparse tables.
    """

    def __init__(self, params: Iterable[Any], lr=1e-3, sparse=False):
        super().__init__(params, {"lr": lr, "rgrad": None, "expm": None})
        self.sparse = sparse

    def move(self, group, given):
        """One step: x + u on the ball, the exponential map on the hyperboloid."""
        for p, g, M in given:
            if isinstance(M, geoopt.PoincareBall):
                r = g / factor(p, 1.0) ** 2
                length = r.norm(dim=-1, keepdim=True)
                p.sub_(group["lr"] * (torch.where(length > 5, 5 / length, 1) * r if self.sparse else r))
            elif isinstance(M, geoopt.Lorentz):
                flip = torch.ones_like(p[:1])
                flip[:, 0] = -1
                u = -group["lr"] * (flip * g + (p * g).sum(-1, keepdim=True) * p)
                length = (flip * u * u).sum(-1, keepdim=True).clamp_min(TINY**2).sqrt()
                t = length.clamp(max=1)
                p.copy_(torch.cosh(t) * p + torch.sinh(t) * u / length)
            else:
                p.sub_(group["lr"] * g)


def of(name: str, dialects: Iterable[str]) -> Any:
    """The class that goes on with a state, by the name of its optimizer and the dialects of its groups' counts; None if there is none."""
    if name == "RiemannianAdam":
        found = set(dialects)
        return OldGeoopt if "double" in found else MiddleGeoopt if "group" in found else RiemannianAdam
    return {
        "RiemannianSGD": RiemannianSGD, "hgcn.RiemannianAdam": HGCN, "hybonet.RiemannianAdam": Hybonet,
        "hypll.RiemannianAdam": hypll.RiemannianAdam, "hypll.RiemannianSGD": hypll.RiemannianSGD,
        "murp.RiemannianSGD": MuRP, "poincare_embeddings.RiemannianSGD": PoincareEmbeddings,
        **{plain: getattr(torch.optim, plain) for plain in ("Adam", "AdamW", "SGD", "RMSprop", "Adagrad")},
    }.get(name)  # fmt: skip
