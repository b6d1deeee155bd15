"""Searches for a step size along a line: geoopt's two functions, which `port_jax.optim.step_sizes` takes its numbers from.

Both are given phi, phi' and their values at 0, and call `scipy.optimize._linesearch` (Nocedal and Wright, Numerical Optimization, 2006,
section 3.5 and algorithms 3.5 and 3.6):

    armijo_backtracking         phi(a) <= phi(0) + c1 a phi'(0); the first trial is 2.02 (phi(0) - old phi(0)) / phi'(0) if that is
                                positive, else 1, and amax at most
    strong_wolfe_line_search    that, and |phi'(a)| <= c2 |phi'(0)|; the first trial is 1 at most, and 0 where phi has not changed

They return None where they find no step size. Neither expects a trial at which phi is not finite: they interpolate through it.
"""

from geoopt.optim.rlinesearch import armijo_backtracking, strong_wolfe_line_search

__all__ = ["armijo_backtracking", "strong_wolfe_line_search"]
