"""A Poincare ball whose curvature is a tensor: trained, one of a table of rows, or one per point."""

from __future__ import annotations

from dataclasses import dataclass

import geoopt.manifolds.stereographic.math as gmath
from torch import Tensor


@dataclass(frozen=True)
class Ball:
    """The ball of curvature -c on geoopt's functions, projected after each map as geoopt's PoincareBall does.

    `geoopt.PoincareBall` detaches the curvature that it is given and stores it through softplus; here c stays in the
    graph and
    broadcasts over points, so that c [B, 1] gives every point its own ball.
    """

    c: Tensor

    def projx(self, x: Tensor) -> Tensor:
        """x [..., d] pulled back to the radius within which geoopt keeps points."""
        return gmath.project(x, k=-self.c)

    def expmap0(self, u: Tensor) -> Tensor:
        """exp_0(u) of a tangent u [..., d] at the origin."""
        return self.projx(gmath.expmap0(u, k=-self.c))

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """exp_x(u) of a tangent u [..., d] at x."""
        return self.projx(gmath.expmap(x, u, k=-self.c))

    def logmap0(self, x: Tensor) -> Tensor:
        """log_0(x), the tangent at the origin that leads to x [..., d]."""
        return gmath.logmap0(x, k=-self.c)

    def mobius_add(self, x: Tensor, y: Tensor) -> Tensor:
        """x ⊕ y."""
        return self.projx(gmath.mobius_add(x, y, k=-self.c))

    def mobius_scalar_mul(self, r: Tensor, x: Tensor) -> Tensor:
        """r ⊗ x."""
        return self.projx(gmath.mobius_scalar_mul(r, x, k=-self.c))

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """The distance of x and y [..., d]: [...], or [..., 1] with `keepdim`."""
        far = gmath.dist(x, y, k=-self.c, keepdim=True)  # with c [B, 1] a dropped axis would broadcast to [B, B]
        return far if keepdim else far[..., 0]

    def dist2(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """The squared distance, of the shape that `dist` has."""
        return self.dist(x, y, keepdim=keepdim) ** 2

    def dist2plane(self, x: Tensor, p: Tensor, a: Tensor) -> Tensor:
        """Signed distance of x to the plane through p with normal a."""
        return gmath.dist2plane(x, p, a, k=-self.c, signed=True)
