"""Torch beside JAX on one checkpoint: bits, settings, forward pass, gradients, and the next 10 optimizer steps.

Needs torch from `forward` on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np

from weights.checkpoint import Checkpoint
from weights.errors import Usage
from weights.mapping import probes
from weights.mapping.port import TREE
from weights.mapping.probes import Outputs
from weights.proof import diff, lookups, points_beside, training, transforms
from weights.proof.authors import of_authors
from weights.proof.flax_run import Arrays
from weights.proof.gates import NUDGES, Results, amplified, cotangents, drift, gaps, gated
from weights.proof.reading import Difference, Reading, Said, comparable, differences, facts, read_anew, steps_comparable
from weights.proof.rows import Row, largest
from weights.proof.sides import BESIDE, STEPS, Original, Sides
from weights.proof.trees import Points
from weights.proof.trees import probe as points_probe
from weights.proof.witness import Witness
from weights.proof.witnessed import confirmed, modules, witnessed
from weights.views.terminal import Screen

TYPES = ("float64", "float32")
LEVELS = ("bits", "settings", "forward", "grad", "step")
WEAKER = (0.1, 0.01, 0.001)
"""Parts of the loss of steps, where the whole of it is too much."""
STRETCH = 5e-9
"""geoopt's exp map takes no tangent on the hyperboloid for shorter than 1e-4, and so stretches a point that stands still by cosh 1e-4. By
about as much formulas differ at a point that float32 has rounded, and so is beside the hyperboloid."""


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
    has loaded the file's own section; the other side is what they were converted to. For a person's own port, grad includes
    Hessian-vector products, `vmap` and calls without `jit` (`weights.proof.transforms`), and forward and grad are compared in training too
    (`weights.proof.training`).

    An error is the difference of the two sides divided by the largest value (for steps, by the distance travelled). Its gate
    is ten times torch's own drift, the largest of three, after all numbers moved by one unit in the last place (for steps,
    moved as far as the gradients differ already, see `amplified`, whose own gate is at the level before): float64 may
    differ by the fixed gates of `FLOAT64` in any case; float32 passes as well by being as near to float64 as torch's
    float32 is, twice its error and 4 units in the last place. `types` may leave float32 out. Steps that differ in float32 alone are
    taken again from beside the file (see `_beside`), and rows that agree there say so.

    Raises Usage if a graph is given to an architecture that takes none, if jax has no float64, and if torch or geoopt is not installed.
    """
    depth, path = LEVELS.index(level), Path(path)
    rows = _bits(checkpoint, path)
    if depth == 0:
        return rows
    reading = read_anew(path, checkpoint, said or Said())
    if witness is not None or depth > 1:
        _wide()
    told = [] if witness is None else witnessed(checkpoint, witness) if witness.drifts else list(of_authors(checkpoint, witness))
    if witness is not None and witness.meta["modules"]:
        original = None if missing() else Original.of(reading.checkpoint)
        told += modules(checkpoint, original, witness)
    if witness is not None:
        reading = replace(reading, unconfirmed=_left(reading, told, checkpoint, witness))
    differ = differences(checkpoint, reading.checkpoint)
    rows += _settings(checkpoint, reading, differ) + told
    if depth == 1 and checkpoint.own_port:
        rows += points_beside.unsaid(reading.checkpoint, told)
    if depth == 1 or not comparable(differ):
        return rows
    if not steps_comparable(differ):
        depth = min(depth, LEVELS.index("grad"))
    needed()
    make = both_sides(checkpoint, reading.checkpoint, graph, seed)
    sides = {name: make(name) for name in types}
    if checkpoint.own_port:
        rows += points_beside.rows(sides["float64"])
    results = {name: _values(side, seed, LEVELS[depth]) for name, side in sides.items()}
    if LEVELS[depth] == "step":
        for name, side in sides.items():
            results[name]["step"] = amplified(_step(side, seed), results[name]["grad"])
    fresh = " (fresh RiemannianAdam)" if not sides["float64"].original.optimizers else ""
    for kind in LEVELS[2 : depth + 1]:
        found = gated(kind, "float64", results["float64"][kind], None)
        if "float32" in types:
            narrow = gated(kind, "float32", results["float32"][kind], results["float64"][kind])
            found += _beside(sides, narrow, seed) if kind == "step" and failed(narrow) and not failed(found) else narrow
        rows += [row._replace(what=row.what + fresh) if kind == "step" else row for row in found]
        if kind == "grad" and checkpoint.own_port:
            rows += transforms.rows(sides, seed)
    if not checkpoint.own_port:
        return rows
    return rows + lookups.unseen(sides["float64"], LEVELS[depth]) + _training(checkpoint, sides, seed, LEVELS[depth])


def _beside(sides: Mapping[str, Sides], rows: list[Row], seed: int) -> list[Row]:
    """Whether float32 steps that differ where those of float64 agree are an error, or the two sides of a kink.

    LeakyReLU and a maximum have two slopes at their kinks. Where an argument is nearer to one than float32's rounding, the sides may take
    one slope each, and torch's own drift, which moves all numbers by one unit in the last place, need not cross the kink. From some
    thousandth beside the file the argument is far from it, and an error is as large as at the file. Returns the rows of the first of
    three such starts from which all steps agree; without one, the rows as they are.
    """
    for nudge in NUDGES:
        moved = {name: side.displaced(seed + nudge) for name, side in sides.items()}
        found = {name: amplified(_step(side, seed), _values(side, seed)["grad"]) for name, side in moved.items()}
        narrow = gated("step", "float32", found["float32"], found["float64"])
        if not failed(narrow) and not failed(gated("step", "float64", found["float64"], None)):
            return [row._replace(what=f"{row.what} ({BESIDE:g} beside the file, past a kink)") for row in narrow]
    return rows


def _training(checkpoint: Checkpoint, sides: Mapping[str, Sides], seed: int, level: str) -> list[Row]:
    """Outputs, new statistics and gradients in training, with shared masks of dropout; where the port does not say how to call it, or the
    masks are not all that is drawn, what is not verified for that.
    """
    in_training = {name: training.Training.of(side) for name, side in sides.items()}
    if open_ := training.unverified(sides["float64"], in_training["float64"]):
        return open_
    if checkpoint.port is None or checkpoint.port.train is None:
        return []
    found = {name: _values(side, seed, level) for name, side in in_training.items()}
    rows = []
    for kind in ("forward", "grad") if level != "forward" else ("forward",):
        for name in sides:
            exact = None if name == "float64" else found["float64"][kind]
            more = gated(kind, name, found[name][kind], exact)
            rows += [row._replace(level="train", what=f"gradient of {row.what}" if kind == "grad" else row.what) for row in more]
    return rows


def _wide() -> None:
    if not jax.config.read("jax_enable_x64"):
        raise Usage("float64 is off in jax", 'Write jax.config.update("jax_enable_x64", True) before the first array is made')


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
    text += f" Not verified: {'; '.join(open_)}."
    told = any(row.level == "settings" for row in rows if not row.verified)
    return f"{text} A witness that your own program records confirms them (hyperport recorder)." if told else text


def show(rows: Sequence[Row]) -> None:
    """The table, and the summary."""
    cells = []
    for row in rows:
        numbers = (f"{row.error:.2e}", f"{row.gate:.1e}") if row.verified else ("", "")
        cells.append((row.level, row.dtype, row.what, *numbers, ("ok" if row.ok else "FAILED") if row.verified else "not verified"))
    screen = Screen()
    screen.table(("level", "type", "what", "error", "gate", ""), cells)
    screen.line(summary(rows))


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


def _values(sides: Sides, seed: int, level: str = "grad") -> dict[str, Results]:
    """Outputs, and from the level grad on gradients."""
    if level == "forward":
        theirs, *moved = (_values_of(sides.run_torch(sides.module(nudge))) for nudge in (0, *NUDGES))
        return {"forward": Results(torch=theirs, jax=sides.outputs(), drift=drift(moved, theirs))}

    def weights(outputs: Arrays) -> Arrays:
        return cotangents(outputs, seed)

    theirs, slopes = sides.torch_pull(weights, 0)
    moved, moved_slopes = zip(*(sides.torch_pull(weights, nudge) for nudge in NUDGES))
    zero = {name: np.zeros_like(value) for name, value in theirs.items()}
    ours, ours_slopes, _ = sides.pull(sides.variables, weights(theirs), zero, 0.0)
    slopes, ours_slopes, *moved_slopes = (sides.tangential(found) for found in (slopes, ours_slopes, *moved_slopes))
    return {
        "forward": Results(torch=theirs, jax=ours, drift=drift(moved, theirs)),
        "grad": Results(torch=slopes, jax=ours_slopes, drift=drift(moved_slopes, slopes)),
    }


def _values_of(outputs: Outputs) -> Arrays:
    return {name: value.detach().numpy() for name, value in outputs.items()}


def targets_of(sides: Sides, seed: int) -> Arrays:
    """Targets close to torch's outputs."""
    first = _values_of(sides.run_torch(sides.module()))
    noise = cotangents(first, seed)
    return {k: (v + 0.05 * np.max(np.abs(v), initial=0) * noise[k]).astype(v.dtype) for k, v in first.items()}


def step_rows(sides: Sides, seed: int) -> list[Row]:
    """The rows of ten steps, in float64."""
    return gated("step", "float64", amplified(_step(sides, seed), _values(sides, seed)["grad"]), None)


def _step(sides: Sides, seed: int) -> Results:
    """The loss is the mean square of (outputs - targets), the targets close to the outputs, so that points stay inside.

    A rate that suits the loss of the training may be too large for this one: where torch's own steps do not end at finite numbers, the
    loss is a tenth, a hundredth or a thousandth of it, and the rows say so.

    Where a float32 file has second moments that differ by rounding within a row (`torch_steps.levelled`), of which the state in JAX has one
    number, the gate grows by what that does to torch's own steps: by twice the distance between its steps from the file's moments and
    those from rows that are all at their smallest, or all at their largest entry. A parameter that such a row does not reach has the gate
    that it has otherwise. (A displacement is proportional to the root of 1/v, so that rows which are d apart move their own points by d/2
    of the way; how far the gradients carry that to other parameters only the steps say. Twice, because in JAX some rows may be nearer to
    their smallest and others to their largest entry.)
    """
    targets = targets_of(sides, seed)
    start, *way_there = sides.torch_walk(targets, 0)
    for part in WEAKER:
        if all(np.isfinite(array).all() for array in way_there[-1].values()):
            break
        sides = replace(sides, strength=part)
        start, *way_there = sides.torch_walk(targets, 0)
    moved = [list(sides.torch_walk(targets, nudge))[1:] for nudge in NUDGES]
    slack = {key: STEPS * STRETCH * largest(start[key]) for key, (manifold, _) in sides.curved.items() if manifold.ambient}
    ours_there, theirs = list(sides.walk(targets)), way_there[-1]
    way = gaps(theirs, start)
    if slack and sides.dtype == "float64":
        slack = _carried(sides, targets, start, theirs, slack)
    for level in sides.levelled():
        other = gaps(sides.torch_steps(targets, 0, sections=level)[1], theirs)
        slack = {key: max(slack.get(key, 0.0), 2 * other[key]) for key in way}
    trail: dict[str, list[tuple[float, float]]] = {key: [] for key in way}
    for here, there, *others in zip(ours_there, way_there, *moved, strict=True):
        apart, own = gaps(here, there), drift(others, there)
        for key, after in trail.items():
            after.append((apart[key], own[key]))
    last = drift([each[-1] for each in moved], theirs)
    said = "" if sides.strength == 1 else f" ({sides.strength:g} of the loss: with all of it torch's own steps are not finite)"
    return Results(torch=theirs, jax=ours_there[-1], scale=way, drift=last, slack=slack, trail=trail, said=said)


def _carried(sides: Sides, targets: Arrays, start: Arrays, theirs: Arrays, slack: dict[str, float]) -> dict[str, float]:
    """The slack of points, and twice how far torch's own steps carry it to each parameter: from points that are moved by as much."""
    random = np.random.default_rng(0)
    moved = {key: start[key] + most * random.choice([-1.0, 1.0], start[key].shape) for key, most in slack.items()}
    elsewhere = sides.torch_steps_from(moved, targets)
    return {key: max(slack.get(key, 0.0), 2 * gap) for key, gap in gaps(elsewhere, theirs).items()}


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
