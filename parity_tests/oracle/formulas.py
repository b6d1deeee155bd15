"""The operations of each constant-curvature space: the arguments, the closed form in mpmath, and the options of the call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from parity_tests.oracle import flat, lorentz, stereographic, unit_sphere


@dataclass(frozen=True)
class Formula:
    """An operation by the names of its arguments (as `grid.draw` gives them) and its closed form, which takes k last."""

    kinds: tuple[str, ...]
    truth: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    constants: tuple[str, ...] = ()
    """Entries of the case that only the closed form takes."""
    space_part: bool = False
    """Compare the space part only: on the hyperboloid it carries the result, and the time coordinate follows from it."""


def _ball(name: str, *kinds: str, **options: Any) -> Formula:
    return Formula(kinds, getattr(stereographic, name), options)


BALL = {
    "lambda_x": _ball("lambda_x", "x", keepdim=True),
    "inner": _ball("inner", "x", "u", "v", keepdim=True),
    "norm": _ball("norm", "x", "u", keepdim=True),
    "egrad2rgrad": _ball("egrad2rgrad", "x", "v"),
    "projx": Formula(("x",), stereographic.projx, constants=("float32",)),
    "retr": Formula(("x", "u"), stereographic.retr, constants=("float32",)),
    "dist": _ball("dist", "x", "y", keepdim=True),
    "dist2": _ball("dist2", "x", "y", keepdim=True),
    "dist0": _ball("dist0", "x", keepdim=True),
    "expmap": _ball("expmap", "x", "u", project=False),
    "expmap0": _ball("expmap0", "u0", project=False),
    "logmap": _ball("logmap", "x", "y"),
    "logmap0": _ball("logmap0", "x"),
    "geodesic": _ball("geodesic", "t", "x", "y"),
    "geodesic_unit": _ball("geodesic_unit", "s", "x", "v", project=False),
    "transp": _ball("transp", "x", "y", "v"),
    "transp0": _ball("transp0", "x", "v"),
    "transp0back": _ball("transp0back", "x", "v"),
    "mobius_add": _ball("mobius_add", "x", "y", project=False),
    "mobius_sub": _ball("mobius_sub", "x", "y", project=False),
    "mobius_coadd": _ball("mobius_coadd", "x", "y", project=False),
    "mobius_cosub": _ball("mobius_cosub", "x", "y", project=False),
    "mobius_scalar_mul": _ball("mobius_scalar_mul", "t", "x", project=False),
    "mobius_pointwise_mul": _ball("mobius_pointwise_mul", "v", "x", project=False),
    "mobius_matvec": _ball("mobius_matvec", "m", "x", project=False),
    "gyration": _ball("gyration", "x", "y", "v"),
    "antipode": _ball("antipode", "x"),
    "dist2plane": _ball("dist2plane", "x", "y", "v", signed=True, keepdim=True),
    "weighted_midpoint": _ball("weighted_midpoint", "xs", "w", reducedim=[-2], project=False),
    "inv_sproj": _ball("inv_sproj", "x"),
    "sproj": _ball("sproj", "p"),
}
FLAT = {name: formula for name, formula in BALL.items() if name not in ("sproj", "inv_sproj")}
"""At curvature 0 there is no sphere to project from."""


def _hyperboloid(name: str, *kinds: str, space_part: bool = True, **options: Any) -> Formula:
    return Formula(kinds, getattr(lorentz, name), options, space_part=space_part and not options)


LORENTZ = {
    "inner": _hyperboloid("inner_tangent", "x", "u", "u2", keepdim=True),
    "norm": _hyperboloid("norm", "x", "u", keepdim=True),
    "egrad2rgrad": _hyperboloid("egrad2rgrad", "x", "a"),
    "proju": _hyperboloid("proju", "x", "a"),
    "dist": _hyperboloid("dist", "x", "y", keepdim=True),
    "dist2": _hyperboloid("dist2", "x", "y", keepdim=True),
    "dist0": _hyperboloid("dist0", "x", keepdim=True),
    "expmap": _hyperboloid("expmap", "x", "u"),
    "expmap0": _hyperboloid("expmap0", "u0"),
    "geodesic_unit": _hyperboloid("geodesic_unit", "s", "x", "e"),
    "logmap": _hyperboloid("logmap", "x", "y"),
    "logmap0": _hyperboloid("logmap0", "x"),
    "logmap0back": _hyperboloid("logmap0back", "x"),
    "transp": _hyperboloid("transp", "x", "y", "u"),
    "transp0": _hyperboloid("transp0", "x", "u0"),
    "transp0back": _hyperboloid("transp0back", "x", "u"),
    "lorentz_to_poincare": _hyperboloid("lorentz_to_poincare", "x", space_part=False),
    "poincare_to_lorentz": _hyperboloid("poincare_to_lorentz", "b"),
}


def _of(module: Any, name: str, *kinds: str, **options: Any) -> Formula:
    return Formula(kinds, getattr(module, name), options)


UNIT_SPHERE = {
    "inner": _of(unit_sphere, "inner", "x", "u", "u2", keepdim=True),
    "norm": _of(unit_sphere, "norm", "x", "u", keepdim=True),
    "projx": _of(unit_sphere, "projx", "x"),
    "proju": _of(unit_sphere, "proju", "x", "v"),
    "egrad2rgrad": _of(unit_sphere, "proju", "x", "v"),
    "dist": _of(unit_sphere, "dist", "x", "y", keepdim=True),
    "dist2": _of(unit_sphere, "dist2", "x", "y", keepdim=True),
    "expmap": _of(unit_sphere, "expmap", "x", "u"),
    "retr": _of(unit_sphere, "retr", "x", "u"),
    "logmap": _of(unit_sphere, "logmap", "x", "y"),
    "transp": _of(unit_sphere, "transp", "x", "y", "u"),
}
EUCLIDEAN = {
    "inner": _of(flat, "inner", "x", "u", "v", keepdim=True),
    "norm": _of(flat, "norm", "x", "u", keepdim=True),
    "dist": _of(flat, "dist", "x", "y", keepdim=True),
    "dist2": _of(flat, "dist2", "x", "y", keepdim=True),
    "expmap": _of(flat, "expmap", "x", "u"),
    "logmap": _of(flat, "logmap", "x", "y"),
    "transp": _of(flat, "transp", "x", "y", "v"),
}
SPACES = {
    "ball": BALL,
    "flat": FLAT,
    "sphere": BALL,
    "lorentz": LORENTZ,
    "unit_sphere": UNIT_SPHERE,
    "euclidean": EUCLIDEAN,
}
"""ball, flat, sphere: the stereographic model with k < 0, k near 0, k > 0; PoincareBall is the first, SphereProjection the last."""
