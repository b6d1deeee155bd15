"""Torch beside JAX on one checkpoint: bits, settings, forward pass, gradients, and the next 10 optimizer steps.

Needs torch from `forward` on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np

from weights.checkpoint import Checkpoint
from weights.errors import Usage
from weights.files.tensors import Tensor
from weights.mapping import probes
from weights.mapping.port import TREE
from weights.proof import diff
from weights.proof.reading import Difference, Reading, Said, comparable, differences, facts, read_anew, steps_comparable
from weights.proof.rows import FLOAT64, Row, Ulp, largest
from weights.proof.sides import STEPS, Arrays, Original, Sides
from weights.proof.trees import Points
from weights.proof.trees import probe as points_probe
from weights.proof.witness import Witness
from weights.proof.witnessed import confirmed, modules, witnessed
from weights.views.terminal import Screen

TYPES = ("float64", "float32")
LEVELS = ("bits", "settings", "forward", "grad", "step")
NUDGES = (1, 2, 3)
SPREAD = 4 * float(np.finfo(np.float32).eps)
"""Entries of a row that are farther apart are not one number."""
STRETCH = 5e-9
"""geoopt's exp map takes no tangent on the hyperboloid for shorter than 1e-4, and so stretches a point that stands still by cosh 1e-4."""


def verify(
    checkpoint: Checkpoint, path: str | Path, graph: str | Path | None = None, *, said: Said | None = None, witness: Witness | None = None,
    level: str = "step", seed: int = 0, types: Sequence[str] = TYPES,
) -> list[Row]:  # fmt: skip
    """Compares the checkpoint with the torch file it came from; each level includes those before it.

    bits: the file that the checkpoint exports is the original one: every tensor bit by bit, and everything beside the tensors.
    settings: the file is read anew, with what a person says of it (`said`), and every hyper-parameter, manifold, key, group of the
    optimizer and counter of the conversion is compared with that. What only the configuration, an option or a default says is listed
    as not verified, but for what a `witness` confirms: its rows compare the conversion with what the person's own program computed (see
    `weights.proof.witnessed`), without torch. forward, grad: outputs, and vector-Jacobian products with random cotangents, at the same
    inputs (Riemannian gradients at points of a manifold). step: the optimizers of both sides go on from the file's state for 10 steps
    on one loss; where that is not possible (see `Original`), both sides start with a fresh RiemannianAdam, and the rows say so. The
    torch side is the architecture's reference with the settings of the new reading, the file's own tensors, and a torch optimizer that
    has loaded the file's own section; the other side is what they were converted to.

    An error is the difference of the two sides divided by the largest value (for steps, by the distance travelled). Its gate
    is ten times torch's own drift, the largest of three, after all numbers moved by one unit in the last place (for steps,
    moved as far as the gradients differ already, see `_amplified`, whose own gate is at the level before): float64 may
    differ by the fixed gates of `FLOAT64` in any case; float32 passes as well by being as near to float64 as torch's
    float32 is, twice its error and 4 units in the last place. `types` may leave float32 out.

    Raises Usage if a graph is given to an architecture that takes none, if jax has no float64, and if torch or geoopt is not installed.
    """
    depth, path = LEVELS.index(level), Path(path)
    rows = _bits(checkpoint, path)
    if depth == 0:
        return rows
    reading = read_anew(path, checkpoint, said or Said())
    if witness is not None or depth > 1:
        _wide()
    told = [] if witness is None else witnessed(checkpoint, witness)
    if witness is not None and witness.meta["modules"]:
        original = None if missing() else Original.of(reading.checkpoint)
        told += modules(checkpoint, original, witness)
    if witness is not None:
        reading = replace(reading, unconfirmed=_left(reading, told, checkpoint, witness))
    differ = differences(checkpoint, reading.checkpoint)
    rows += _settings(checkpoint, reading, differ) + told
    if depth == 1 or not comparable(differ):
        return rows
    if not steps_comparable(differ):
        depth = min(depth, LEVELS.index("grad"))
    needed()
    make = both_sides(checkpoint, reading.checkpoint, graph, seed)
    sides = {name: make(name) for name in types}
    results = {name: _forward_and_grad(side, seed) for name, side in sides.items()}
    if LEVELS[depth] == "step":
        for name, side in sides.items():
            results[name]["step"] = _amplified(_step(side, seed), results[name]["grad"])
    fresh = " (fresh RiemannianAdam)" if not sides["float64"].original.optimizers else ""
    for kind in LEVELS[2 : depth + 1]:
        found = _gated(kind, "float64", results["float64"][kind], None)
        if "float32" in types:
            found += _gated(kind, "float32", results["float32"][kind], results["float64"][kind])
        rows += [row._replace(what=row.what + fresh) if kind == "step" else row for row in found]
    return rows


def _wide() -> None:
    if not jax.config.read("jax_enable_x64"):
        raise Usage("float64 is off in jax", "Set jax_enable_x64 before comparing")


def _left(reading: Reading, told: Sequence[Row], checkpoint: Checkpoint, witness: Witness) -> dict[str, str]:
    """What remains unconfirmed beside a witness."""
    sure, why = confirmed(told, checkpoint, witness, list(reading.unconfirmed))
    return {name: f"{reason}; {why}" for name, reason in reading.unconfirmed.items() if name not in sure}


def missing() -> str | None:
    """The first of torch and geoopt that is not installed."""
    return next((name for name in ("torch", "geoopt") if find_spec(name) is None), None)


def needed() -> None:
    """Raises Usage, with what to install, if torch or geoopt is not there."""
    if name := missing():
        raise Usage(f"{name} is not installed, and the torch side needs it", 'Run pip install "hyperport[reference]", or --level settings')


def versions() -> dict[str, str]:
    """The versions of the libraries that were compared; without torch and geoopt where they are not installed."""
    return {name: version(name) for name in ("torch", "geoopt", "jax", "flax", "optax", "numpy") if find_spec(name)}


def failed(rows: Sequence[Row]) -> bool:
    """Whether any comparison is beyond its gate."""
    return any(not row.ok for row in rows)


def unverified(rows: Sequence[Row]) -> list[str]:
    """What nothing confirms."""
    return [row.what for row in rows if not row.verified]


def summary(rows: Sequence[Row]) -> str:
    """The last line: how many comparisons failed, and what nothing confirms."""
    bad, open_ = sum(not row.ok for row in rows), unverified(rows)
    compared = sum(row.verified for row in rows)
    text = f"{bad} of {compared} comparisons failed." if bad else f"All {compared} comparisons agree."
    if not open_:
        return text
    return f"{text} Not verified: {'; '.join(open_)}. A witness that your own program records confirms them (hyperport recorder)."


def show(rows: Sequence[Row]) -> None:
    """The table, and the summary."""
    cells = []
    for row in rows:
        numbers = (f"{row.error:.2e}", f"{row.gate:.1e}") if row.verified else ("", "")
        cells.append((row.level, row.dtype, row.what, *numbers, ("ok" if row.ok else "FAILED") if row.verified else "not verified"))
    screen = Screen()
    screen.table(("level", "type", "what", "error", "gate", ""), cells)
    screen.line(summary(rows))


@dataclass
class _Results:
    """Named arrays of both sides; `scale` divides errors, `drift` is torch's own after a moved start, `slack` what geoopt adds.

    trail: of steps, the gap and the drift after each.
    """

    torch: Arrays
    jax: Arrays
    scale: dict[str, float]
    drift: dict[str, float]
    slack: dict[str, float]
    trail: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def both_sides(checkpoint: Checkpoint, reading: Checkpoint, graph: str | Path | None, seed: int) -> Callable[[str], Sides]:
    """Both sides of a checkpoint, by the precision. The model of a tree is its points, on each side by its own manifolds."""
    model, original = checkpoint.model, Original.of(reading)
    if reading.arch == TREE:
        model, theirs = (Points.of(ckpt.entries, ckpt.manifolds, ckpt.variables["params"]) for ckpt in (checkpoint, reading))
        reference, probe = theirs.reference, points_probe(theirs)
    else:
        port = reading.port
        if port is None or port.torch is None:
            raise Usage(f"{reading.arch} has no torch reference to compare with", "Use --level settings, or give the port torch=")
        reference, probe = port.reference, port.compared
    inputs = probes.drawn(probe, reading.settings, seed, graph)
    return lambda dtype: Sides(
        checkpoint=checkpoint, reading=reading, original=original, reference=reference, probe=probe, inputs=inputs, model=model,
        dtype=dtype, port=reading.port,
    )  # fmt: skip


def _bits(checkpoint: Checkpoint, path: Path) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        back = Path(folder, path.stem + ".pth")
        try:
            checkpoint.export(back)
        except Exception as error:  # whatever it is, a conversion that gives no file fails, and the settings say why
            what = f"the conversion gives no file: {type(error).__name__}: {error}"
            return [Row(level="bits", dtype="as stored", what=what, error=1.0, gate=0.0, ok=False)]
        rows = diff.compare(path, back)
    wrong = [row.key for row in rows if not row.equal]
    what = f"{len(checkpoint.entries)} tensors, and {len(rows) - len(checkpoint.entries)} values of the optimizer and beside the model"
    if wrong:
        what += f": {', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}"
    return [Row(level="bits", dtype="as stored", what=what, error=float(len(wrong)), gate=0.0, ok=not wrong)]


def _settings(checkpoint: Checkpoint, reading: Reading, found: Sequence[Difference]) -> list[Row]:
    """The differences of two readings, and what nothing confirms."""
    row = partial(Row, level="settings", dtype="", gate=0.0)
    total = f"{len(facts(checkpoint))} settings, keys, manifolds and counters, read anew"
    rows = [row(what=total, error=float(len(found)), ok=not found)]
    rows += [row(what=f"{d.what}: {d.conversion} in the conversion, {d.reading} in the new reading", error=1.0, ok=False) for d in found]
    named: dict[str, list[str]] = {}
    for name, why in reading.unconfirmed.items():
        named.setdefault(why, []).append(name)
    rows += [row(what=f"{', '.join(names)} ({why})", error=0.0, ok=True, verified=False) for why, names in named.items()]
    return rows


def cotangents(outputs: Arrays, seed: int) -> Arrays:
    """Random weights of the outputs, by name."""
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(np.shape(value)).astype(value.dtype) for name, value in sorted(outputs.items())}


def _forward_and_grad(sides: Sides, seed: int) -> dict[str, _Results]:
    def weights(outputs: Arrays) -> Arrays:
        return cotangents(outputs, seed)

    theirs, slopes = sides.torch_pull(weights, 0)
    moved, moved_slopes = zip(*(sides.torch_pull(weights, nudge) for nudge in NUDGES))
    zero = {name: np.zeros_like(value) for name, value in theirs.items()}
    ours, ours_slopes, _ = sides.pull(sides.variables, weights(theirs), zero, 0.0)
    slopes, ours_slopes, *moved_slopes = (sides.tangential(found) for found in (slopes, ours_slopes, *moved_slopes))
    return {
        "forward": _Results(torch=theirs, jax=ours, scale={}, drift=_drift(moved, theirs), slack={}),
        "grad": _Results(torch=slopes, jax=ours_slopes, scale={}, drift=_drift(moved_slopes, slopes), slack={}),
    }


def targets_of(sides: Sides, seed: int) -> Arrays:
    """Targets close to torch's outputs."""
    first = {name: value.detach().numpy() for name, value in sides.run_torch(sides.module()).items()}
    noise = cotangents(first, seed)
    return {k: (v + 0.05 * np.max(np.abs(v), initial=0) * noise[k]).astype(v.dtype) for k, v in first.items()}


def step_rows(sides: Sides, seed: int) -> list[Row]:
    """The rows of ten steps, in float64."""
    return _gated("step", "float64", _amplified(_step(sides, seed), _forward_and_grad(sides, seed)["grad"]), None)


def _step(sides: Sides, seed: int) -> _Results:
    """The loss is the mean square of (outputs - targets), the targets close to the outputs, so that points stay inside."""
    targets = targets_of(sides, seed)
    start, *way_there = sides.torch_walk(targets, 0)
    moved = [list(sides.torch_walk(targets, nudge))[1:] for nudge in NUDGES]
    slack = {key: STEPS * STRETCH * largest(start[key]) for key, (manifold, _) in sides.curved.items() if manifold.ambient}
    ours_there, theirs = list(sides.walk(targets)), way_there[-1]
    way = _gaps(theirs, start)
    spread = max(_spreads(sides).values(), default=0.0)  # what moves one parameter moves the gradients of all others
    slack = {key: slack.get(key, 0.0) + spread * way[key] for key in way}
    trail: dict[str, list[tuple[float, float]]] = {key: [] for key in way}
    for here, there, *others in zip(ours_there, way_there, *moved, strict=True):
        gaps, drift = _gaps(here, there), _drift(others, there)
        for key, after in trail.items():
            after.append((gaps[key], drift[key]))
    last = _drift([each[-1] for each in moved], theirs)
    return _Results(torch=theirs, jax=ours_there[-1], scale=way, drift=last, slack=slack, trail=trail)


def _spreads(sides: Sides) -> dict[str, float]:
    """By key, how much the entries of a row of `exp_avg_sq` differ, relative to it, where a row has one number but for rounding.

    geoopt adds a number to each entry of a row, and torch's vector instructions round the last entries of an array otherwise: in a
    float32 file they may be an ulp apart, and the state in JAX has one of them.
    """
    found: dict[str, float] = {}
    for plan, raw in zip(sides.reading.plans, sides.original.optimizers):
        for index, key in plan.keys.items():
            stored = raw["state"].get(index, {}).get("exp_avg_sq")
            if key in sides.curved and isinstance(stored, Tensor) and len(stored.shape):
                rows = np.asarray(stored.array(), np.float64)
                relative = np.abs(rows - rows[..., :1]) / np.maximum(np.abs(rows), np.finfo(np.float64).tiny)
                if 0 < relative.max() < SPREAD:
                    found[key] = float(relative.max())
    return found


def _gaps(a: Arrays, b: Arrays) -> dict[str, float]:
    return {key: largest(a[key].astype(np.float64) - b[key]) for key in a}


def _amplified(steps: _Results, slopes: _Results) -> _Results:
    """Steps whose drift is that of a start as far away as the gradients of both sides are apart already.

    One unit in the last place of the parameters moves torch's gradients less than another order of rounding in its formulas
    does. The factor is the median over the parameters of (gradient difference of the sides / drift of torch's gradient).
    """
    gaps = _gaps(slopes.jax, slopes.torch)
    ratios = [gaps[key] / slopes.drift[key] for key in gaps if slopes.drift[key] > 0]
    factor = max(1.0, float(np.median(ratios))) if ratios else 1.0
    trail = {key: [(gap, factor * drift) for gap, drift in after] for key, after in steps.trail.items()}
    return replace(steps, drift={key: factor * drift for key, drift in steps.drift.items()}, trail=trail)


def _drift(moved: Sequence[Arrays], theirs: Arrays) -> dict[str, float]:
    """How far torch itself ends elsewhere after a nudged start: the farthest of a few."""
    return {key: max(_gaps(other, theirs)[key] for other in moved) for key in theirs}


def _gated(level: str, dtype: str, found: _Results, exact: _Results | None) -> list[Row]:
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
        rows.append(Row(level=level, dtype=dtype, what=name, error=error, gate=limit, ok=bool(np.isfinite(error)) and error <= limit,
                        ulp=Ulp.of(found.torch[name], found.jax[name]), trail=trail))  # fmt: skip
    return rows


__all__ = [
    "TYPES",
    "Row",
    "Said",
    "both_sides",
    "cotangents",
    "failed",
    "missing",
    "needed",
    "show",
    "summary",
    "unverified",
    "verify",
    "versions",
]
