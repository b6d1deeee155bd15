"""Line search on manifolds: geoopt's class, which `port_jax.optim.riemannian_line_search` takes its numbers from.

With points p, Riemannian gradients g = M.egrad2rgrad(p, grad f(p)) and the direction d_old of the last step, over all parameters together:

    d = -g + beta T d_old                               d = -g at the first step, and where <g, d> >= 0
    phi(a) = f(retr_p(a d)),    phi'(a) = <grad f, T_{a d} d> there
    p = retr_p(a d), with a from `step_sizes`

    beta                        0 "steepest",  <g, g> / <g_old, g_old> "fr",  <g, g - T g_old> / <g_old, g_old> "pr"

The order matters in three places:

- The norm of g_old is measured with the metric at the new point, when the next step begins.
- T d and T g are computed by `transp_follow_retr` for the step that is taken, after the search.
- The last value and step size stand on the object, not in the state, so that a run that is loaded again begins its search at 1.

geoopt departs from these formulas in three places. Its inner products of a batch of points on the ball count pairs of points, which `Ball`
corrects. Short steps on the hyperboloid are inaccurate; `Hyperboloid` has them in closed form. After a step that was not taken, "wolfe"
begins its search at 0, and finds nothing from then on.
"""

from __future__ import annotations

from typing import Any

import geoopt
import torch
from geoopt.optim import RiemannianLineSearch


class Ball(geoopt.PoincareBall):
    """geoopt's inner(keepdim=False) of a batch of B points has shape (B, B), and its sum counts pairs of them."""

    def inner(self, x: Any, u: Any, v: Any = None, *, keepdim: bool = False, dim: int = -1) -> Any:
        full = super().inner(x, u, v, keepdim=True, dim=dim)
        return full if keepdim else full.squeeze(dim)


class Hyperboloid(geoopt.Lorentz):
    """geoopt raises norms to 1e-4 and divides by dist^2: a step of 1e-6 is 2e-9 off, its transport 2e-5.

    The line search amplifies that; here both are in closed form.
    """

    def expmap(self, x: Any, u: Any, **_: Any) -> Any:
        n = torch.sqrt(self.inner(x, u, keepdim=True).clamp_min(0) / self.k)
        safe = torch.where(n > 0, n, 1.0)
        return torch.cosh(n) * x + torch.where(n > 0, torch.sinh(safe) / safe, 1.0) * u

    retr = expmap

    def transp(self, x: Any, y: Any, v: Any, **_: Any) -> Any:
        return v + self.inner(x, y, v, keepdim=True) / (self.k - self.inner(x, x, y, keepdim=True)) * (x + y)

    def retr_transp(self, x: Any, u: Any, v: Any, **_: Any) -> Any:
        y = self.retr(x, u)
        return y, self.transp(x, y, v)

    def transp_follow_retr(self, x: Any, u: Any, v: Any, **_: Any) -> Any:
        return self.transp(x, self.retr(x, u), v)


__all__ = ["Ball", "Hyperboloid", "RiemannianLineSearch"]
