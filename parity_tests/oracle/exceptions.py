"""Lines of the accuracy table where port_jax is above geoopt by more than one rounding, or not right to the conditioning, with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

Key = tuple[str, str, str, str]
"""Space, operation, `value` or the argument of the gradient, dtype."""


class Group(NamedTuple):
    """Lines with one reason; `most` bounds their factors over geoopt, or their errors in eps over one plus the condition number."""

    reason: str
    most: float
    lines: Sequence[str]

    def rows(self) -> list[Key]:
        """The lines as keys of rows; a line can name several arguments and dtypes, with commas."""
        found = []
        for line in self.lines:
            space, operations, of, dtypes = line.split()
            for name, of_, dtype in product(operations.split(","), of.split(","), dtypes.split(",")):
                found.append((space, name, of_ if of_ == "value" else f"d/d{of_}", f"float{dtype}"))
        return found


ABOVE = [
    Group(
        "A few roundings on both sides, at most 15 eps: as many operations as geoopt's, in another order, or sums that XLA fuses.",
        2.8,
        (
            "ball projx x 32",
            "ball retr k 32",
            "ball mobius_add k 32",
            "ball mobius_add x 64",
            "ball gyration x 32,64",
            "flat inner u,v 64",
            "flat norm u 32",
            "flat egrad2rgrad k 32",
            "flat geodesic_unit v 32",
            "flat transp x 64",
            "flat mobius_add k 64",
            "flat mobius_sub y 64",
            "flat gyration k 32",
            "flat dist2plane v 32",
            "sphere dist0 value 32",
            "sphere mobius_scalar_mul x 32",
            "lorentz inner u,u2 32",
            "lorentz inner u 64",
            "lorentz proju x 32",
            "lorentz lorentz_to_poincare x 64",
            "unit_sphere projx x 32,64",
            "unit_sphere proju,egrad2rgrad x,v 32",
            "unit_sphere proju,egrad2rgrad value 64",
            "unit_sphere expmap x 32,64",
            "unit_sphere retr u 32",
            "unit_sphere transp value 32",
        ),
    ),
    Group(
        "Sums that cancel at single cases with condition numbers of 10 to 1000: both errors are the rounding of the terms times that "
        "number (port_jax within 8 eps of the conditioning), and it is chance whose roundings point the same way.",
        4.0,
        (
            "ball retr x,u 32",
            "ball gyration y 64",
            "flat transp0back x 64",
            "flat gyration y 64",
            "flat dist2plane value 32",
            "sphere inner value,x 64",
            "sphere expmap x,u 32",
            "sphere logmap x,y 32",
            "sphere transp0 x 64",
            "sphere transp0back x 32",
            "lorentz inner x 64",
            "lorentz egrad2rgrad value 64",
            "lorentz proju value 32,64",
            "lorentz geodesic_unit s 64",
            "unit_sphere inner value 32,64",
            "unit_sphere expmap u 32,64",
            "unit_sphere retr u 64",
            "unit_sphere transp x 32,64",
            "unit_sphere transp y 32,64",
        ),
    ),
    Group(
        "At curvature 1e-9 the derivative is a sum whose terms geoopt's formula does not round: port_jax's error is below one eps.",
        11,
        ("flat mobius_cosub y 32",),
    ),
    Group(
        "The derivative by the factor is a product with <cotangent, x>, which cancels by 100 and more: two eps beyond conditioning.",
        6.5,
        ("flat mobius_scalar_mul t 32", "sphere mobius_scalar_mul t 32"),
    ),
    Group(
        "expmap of t logmap: far on the sphere the logarithm's error is multiplied by the exponential's derivative; p50 is below geoopt's "
        "within half an eps, and the maximum of the derivatives by points is below.",
        3.2,
        ("sphere geodesic value,x,y,k 32",),
    ),
    Group(
        "d/ds arcosh(1 + 2s) dx0: the derivative goes through s in five operations, geoopt's through one square root.",
        2.8,
        ("lorentz dist0 x 64",),
    ),
    Group(
        "At the last floats before the boundary the gradient is 1/eps and more times smaller than its terms, and neither side has a right "
        "digit: geoopt's is the 0 of a clamp, an error of 1/eps, port_jax's the rounding of the terms. p50 is below geoopt's or equal.",
        21,
        (
            "ball expmap u,k 64",
            "ball geodesic y,k 64",
            "ball logmap0,mobius_scalar_mul,mobius_pointwise_mul x 64",
            "ball mobius_matvec x 32,64",
            "ball mobius_add y 64",
            "ball mobius_coadd y,k 64",
            "ball weighted_midpoint k 32",
            "ball weighted_midpoint w 64",
            "sphere weighted_midpoint w 32",
        ),
    ),
    Group(
        "The same, with condition numbers of 1e17 and 1e18: four points, of which one or two are at the last float.",
        1050,
        ("ball weighted_midpoint xs,k 64",),
    ),
    Group(
        "The true derivative is the rounding of the tangent's normal part: no side has a digit, at 1/eps each.",
        1.5,
        ("unit_sphere inner x 32", "unit_sphere norm x 32,64"),
    ),
]
"""Where a statistic is above geoopt's by more than half an eps."""

BEYOND = [
    Group(
        "Gradients of points from 0.99 of the radius to the last float: the backward pass adds terms up to 1/(1 - |x|²)² times larger than "
        "their sum, in another order than the closed form's own conditioning asks for. Far inside they are right to a few eps.",
        3e16,
        (
            "ball expmap x,u,k 32,64",
            "ball geodesic x,y 32,64",
            "ball geodesic t 32,64",
            "ball geodesic k 64",
            "ball geodesic_unit s,v 64",
            "ball mobius_coadd k 32,64",
            "ball weighted_midpoint k 32,64",
        ),
    ),
    Group(
        "artan and tan one after the other, from 0.9999 of the radius on: 1 - |x|² of the intermediate result is known to eps only.",
        3000,
        ("ball mobius_scalar_mul t,x,k 32,64", "ball mobius_matvec x,k 32,64"),
    ),
    Group(
        "At k = 0 exactly, where the antipode jumps from infinity to -x: no derivative exists, port_jax's is 0.",
        3e15,
        ("flat antipode k 64",),
    ),
    Group(
        "Differentiated in all coordinates, as geoopt does, where that keeps half of the digits; nearer, in the space part.",
        5e6,
        ("lorentz dist,dist2 y 32", "lorentz dist,dist2 k 64", "lorentz dist0 k 64"),
    ),
    Group(
        "Tangents at distance 4 from the origin: radial and transverse part of the derivative cancel by the square of the time coordinate.",
        600,
        ("lorentz expmap u 32,64",),
    ),
    Group(
        "Far points transported to each other in float32: factors of the derivative are beyond 1e38. geoopt is not finite in ten times as "
        "many cases.",
        float("inf"),
        ("lorentz transp x,y,k 32",),
    ),
    Group(
        "Points 1e-8 apart in float32, which are equal or one rounding apart once they are normalised, and the normal part of a tangent.",
        6e5,
        ("unit_sphere dist,dist2 x,y 32", "unit_sphere norm x 32,64"),
    ),
]
"""Where the error is more than 64 eps beyond the conditioning."""

NOT_FINITE = {key for group in BEYOND if group.most == float("inf") for key in group.rows()}


def listed(groups: Sequence[Group]) -> dict[Key, float]:
    """The bound of each line; a line belongs to one group."""
    pairs = [(key, group.most) for group in groups for key in group.rows()]
    assert len(dict(pairs)) == len(pairs), "a line is listed twice"
    return dict(pairs)
