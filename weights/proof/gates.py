"""Gates from torch's own drift: what two sides may differ by, relative to what torch itself does after its smallest change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from weights.proof.flax_run import Arrays
from weights.proof.rows import FLOAT64, Row, Ulp, largest

NUDGES = (1, 2, 3)
"""Seeds of the moves by one unit in the last place, from which torch's drift is taken."""


@dataclass
class Results:
    """Named arrays of both sides; `scale` divides errors, `drift` is torch's own after a moved start, `slack` what geoopt adds.

    trail: of steps, the gap and the drift after each. said: what a row says beside its name.
    """

    torch: Arrays
    jax: Arrays
    drift: dict[str, float]
    scale: dict[str, float] = field(default_factory=dict)
    slack: dict[str, float] = field(default_factory=dict)
    trail: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    said: str = ""


def cotangents(outputs: Arrays, seed: int) -> Arrays:
    """Random weights of the outputs, by name."""
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(np.shape(value)).astype(value.dtype) for name, value in sorted(outputs.items())}


def gaps(a: Arrays, b: Arrays) -> dict[str, float]:
    """The largest difference of each array."""
    return {key: largest(a[key].astype(np.float64) - b[key]) for key in a}


def amplified(steps: Results, slopes: Results) -> Results:
    """Steps whose drift is that of a start as far away as the gradients of both sides are apart already.

    One unit in the last place of the parameters moves torch's gradients less than another order of rounding in its formulas
    does. The factor is the median over the parameters of (gradient difference of the sides / drift of torch's gradient).
    """
    apart = gaps(slopes.jax, slopes.torch)
    ratios = [apart[key] / slopes.drift[key] for key in apart if slopes.drift[key] > 0]
    factor = max(1.0, float(np.median(ratios))) if ratios else 1.0
    trail = {key: [(gap, factor * drift) for gap, drift in after] for key, after in steps.trail.items()}
    return replace(steps, drift={key: factor * drift for key, drift in steps.drift.items()}, trail=trail)


def drift(moved: Sequence[Arrays], theirs: Arrays) -> dict[str, float]:
    """How far torch itself ends elsewhere after a nudged start: the farthest of a few."""
    return {key: max(gaps(other, theirs)[key] for other in moved) for key in theirs}


def gated(level: str, dtype: str, found: Results, exact: Results | None) -> list[Row]:
    """One row for each array. Where float32 is beyond torch's drift, being as near to float64 as torch is passes too."""
    rows = []
    for name in found.torch:
        theirs, ours = found.torch[name].astype(np.float64), found.jax[name].astype(np.float64)
        top = largest(theirs)
        scale = found.scale.get(name) or top or 1.0
        error, limit = largest(ours - theirs), 10 * found.drift[name] + found.slack.get(name, 0.0)
        if exact is None:
            limit = max(limit, FLOAT64[level] * scale)
        else:
            unit = float(np.finfo(np.float32).eps) * top
            limit += 4 * unit
            if error > limit:
                truth = exact.torch[name].astype(np.float64)
                error, limit = largest(ours - truth), 2 * largest(theirs - truth) + 4 * unit
        error, limit = error / scale, limit / scale
        trail = tuple((step, gap / scale, 10 * drift / scale) for step, (gap, drift) in enumerate(found.trail.get(name, ()), 1))
        ok = bool(np.isfinite(error)) and error <= limit
        rows.append(Row(level=level, dtype=dtype, what=name + found.said, error=error, gate=limit, ok=ok,
                        ulp=Ulp.of(found.torch[name], found.jax[name]), trail=trail))  # fmt: skip
    return rows


__all__ = ["NUDGES", "Results", "amplified", "cotangents", "drift", "gaps", "gated"]
