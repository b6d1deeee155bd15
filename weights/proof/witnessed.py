"""A conversion beside a witness: start, outputs, gradients, submodules, steps of the optimizer. Only submodules need torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from weights.checkpoint import Checkpoint
from weights.errors import Unmatched, Usage
from weights.mapping import probes
from weights.mapping.entries import flatten, inverse, place
from weights.mapping.port import TREE
from weights.mapping.probes import Probe
from weights.proof.flax_run import QUICK
from weights.proof.rows import FLOAT64, MANIFOLD, Row, Ulp, largest
from weights.proof.sides import Original, Sides
from weights.proof.witness import SEED, Witness
from weights.types import OptState, Params

LEVEL = "witness"
CURVATURES = ("c", "curvature")
"""The settings that programs keep as tensors; others are numbers of Python."""
UNITS = 4
"""Units in the last place that a number may differ by beyond ten times the program's own drift."""
LOOSE = 0.1
"""A gate above this part of the way proves nothing."""
MODULE = 1000
"""Units in the last place of a submodule's output, which only has to show where the first large difference is."""


def witnessed(checkpoint: Checkpoint, witness: Witness) -> list[Row]:
    """The rows of a conversion beside a witness: start, outputs, gradients, groups of the optimizer, steps.

    An error is the difference divided by the largest recorded value (for steps, by the distance travelled); its gate is ten times the
    program's own drift and 4 units in the last place. What was recorded in float64 as well is compared in float64.
    Raises Unmatched for inputs and outputs that the model does not have.
    """
    rows = list(_start(checkpoint, witness))
    if any(not row.ok for row in rows):
        return rows
    if witness.meta["outputs"] and (why := _speechless(checkpoint)):
        rows.append(Row(LEVEL, "", f"{', '.join(witness.meta['outputs'])} ({why})", 0.0, 0.0, True, False))
    elif witness.meta["outputs"]:
        rows += _outputs(checkpoint, witness)
    if witness.meta.get("watched") and not witness.meta["steps"]:
        what = f"the optimizer's steps (the program ended before the {witness.meta['watched']} that were to be recorded)"
        rows.append(Row(LEVEL, "", what, 0.0, 0.0, True, False))
    if witness.meta["steps"]:
        rows += groups_of(checkpoint, witness)
        rows += _steps(checkpoint, witness)
    return rows


def confirmed(rows: Sequence[Row], checkpoint: Checkpoint, witness: Witness, names: Sequence[str]) -> tuple[list[str], str]:
    """Which of the settings `names` a witness confirms, and why not the others.

    None where a comparison failed or an output was not recorded, on which they may act; never a rate of dropout, which acts in training.
    Of a tree, the manifolds on which the witness has moved a parameter.
    """
    if checkpoint.arch == TREE and all(row.ok for row in rows):
        moved = {row.what.rpartition(", step ")[0].partition("@")[0] for row in rows if row.verified}
        return [name for name in names if name.removeprefix(MANIFOLD) in moved], "only steps of the optimizer show it"
    why = "" if witness.meta["outputs"] else "the witness has no outputs"
    if why := _speechless(checkpoint) or why or ("" if all(row.ok for row in rows) else "the witness says something else"):
        return [], why
    outputs = {name.partition(".")[0] for name in sides_of(checkpoint, None, witness.dtype).shapes}
    missing = sorted(outputs - {name.partition("/")[0] for name in witness.under("outputs/")})
    if missing:
        return [], f"the witness does not have {', '.join(missing)}"
    unseen = () if checkpoint.port is None else checkpoint.port.in_training
    return [name for name in names if "dropout" not in name and name not in unseen], "outputs in evaluation mode do not depend on it"


def modules(checkpoint: Checkpoint, original: Original | None, witness: Witness) -> list[Row]:
    """The outputs of submodules beside those of the architecture's torch module with the settings of the conversion and the file's tensors.

    Its submodules have the names of the original's, so that the first that differs shows where the reading of the file went wrong.
    original: the file; None where torch is not installed, and then nothing is compared.
    """
    names, why, dtype = list(witness.meta["modules"]), _speechless(checkpoint), witness.dtype
    port = checkpoint.port
    if original is None or port is None or port.torch is None:
        why = why or ("there is no torch reference" if port is None or port.torch is None else "it needs torch and geoopt")
        return [Row(LEVEL, dtype, f"module {name} ({why})", 0.0, 0.0, True, False) for name in names]
    probe = _probe(checkpoint)
    inputs = probes.drawn(probe, checkpoint.settings, SEED, None, witness.inputs)
    sides = Sides(checkpoint=checkpoint, reading=checkpoint, original=original, reference=port.reference, probe=probe, inputs=inputs,
                  model=checkpoint.model, dtype=dtype, port=port)  # fmt: skip
    ours = sides.torch_modules(names)
    rows = []
    for name in names:
        for at, array in witness.under(f"modules/{name}").items():
            if at and not at.startswith("/"):  # of a submodule below
                continue
            found = ours.get(f"{name}{at}")
            if found is None and name in ours:  # the original's layers may hand on their graph beside their output
                if at != "/0":
                    continue
                found = ours[name]
            if found is None or found.shape != array.shape:
                rows.append(Row(LEVEL, dtype, f"{name}{at} (the reference has no such output)", 0.0, 0.0, True, False))
                continue
            top = largest(array) or 1.0
            rows.append(
                row_of(f"module {name}{at}", dtype, largest(found.astype(np.float64) - array) / top, MODULE * float(np.finfo(dtype).eps))
            )
    first = next((n for n, row in enumerate(rows) if not row.ok), None)
    if first is not None:
        rows[first] = rows[first]._replace(what=f"{rows[first].what}, the first to differ")
    return rows


def row_of(what: str, dtype: str, error: float, gate: float) -> Row:
    return Row(level=LEVEL, dtype=dtype, what=what, error=error, gate=gate, ok=bool(np.isfinite(error)) and error <= gate)


def _start(checkpoint: Checkpoint, witness: Witness) -> Iterator[Row]:
    """Whether the program had the numbers of the file."""
    ours = by_key(checkpoint)
    wrong = []
    for key, entry in witness.meta["parameters"].items():
        array = ours.get(key.removeprefix(checkpoint.source.prefix))
        if array is None:
            wrong.append(f"{key} (not in the file)")
            continue
        array = array if array.dtype.name in ("float32", "float64") else array.astype(np.float32)
        if hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() != entry["sha256"]:
            wrong.append(key)
    what = f"{len(witness.meta['parameters'])} parameters of the program at the start"
    what += f"; other numbers in {', '.join(wrong[:3])}: record it with this checkpoint loaded" if wrong else ""
    yield row_of(what, "as stored", float(len(wrong)), 0.0)


def by_key(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """All tensors in torch's layout by key."""
    flat, found = flatten(checkpoint.variables), dict(checkpoint.constants)
    for entry in checkpoint.entries:
        if entry.path is not None:
            found[entry.key] = inverse(entry, np.asarray(flat[str(entry.path)]), str(entry.path))
    return {**found, **{e.key: found[e.tied] for e in checkpoint.entries if e.role == "tied" and e.tied in found}}


def _speechless(checkpoint: Checkpoint) -> str:
    """Why the converted model has no outputs that could be compared; empty where it has."""
    return "a tree of parameters has no outputs" if checkpoint.port is None else ""


def _probe(checkpoint: Checkpoint) -> Probe:
    assert checkpoint.port is not None, _speechless(checkpoint)
    return checkpoint.port.compared


def sides_of(checkpoint: Checkpoint, given: Mapping[str, Any] | None, dtype: str) -> Sides:
    """The side of JAX, on given inputs; what is not given is drawn."""
    probe = _probe(checkpoint)
    inputs = probes.drawn(probe, checkpoint.settings, SEED, None, given)
    return Sides(checkpoint=checkpoint, reading=checkpoint, original=Original({}, ()), reference=_no_torch, probe=probe, inputs=inputs,
                 model=checkpoint.model, dtype=dtype, port=checkpoint.port)  # fmt: skip


def _outputs(checkpoint: Checkpoint, witness: Witness) -> Iterator[Row]:
    """Outputs, and their vector-Jacobian product with the recorded cotangents, in the program's precision and in float64.

    A program in float32 may hold its curvatures in float32, also where it computes in float64: then 1.3 is 1.2999999523.
    """
    yield from _pulled(checkpoint, witness, witness.dtype, "")
    rows = list(_pulled(checkpoint, witness, "float64", "double/"))
    if witness.dtype == "float32" and not all(row.ok for row in rows):
        rounded = list(_pulled(_in_float32(checkpoint), witness, "float64", "double/"))
        if all(row.ok for row in rounded):
            rows = [row._replace(what=f"{row.what} (with curvatures in float32)") for row in rounded]
    yield from rows


def _in_float32(checkpoint: Checkpoint) -> Checkpoint:
    """The model with its curvatures rounded to float32."""

    def rounded(value: Any) -> Any:
        if isinstance(value, list):
            return [rounded(item) for item in value]
        return float(np.float32(value)) if isinstance(value, float) else value

    settings = {name: rounded(value) if name in CURVATURES else value for name, value in checkpoint.settings.items()}
    return replace(checkpoint, settings=settings, model=checkpoint.port.build(settings) if checkpoint.port else None)


def _pulled(checkpoint: Checkpoint, witness: Witness, dtype: str, prefix: str) -> Iterator[Row]:
    """The rows of one precision, whose arrays have this prefix; none where it was not recorded."""
    cotangents = {name.replace("/", "."): array for name, array in witness.under("cotangents/").items()}
    recorded = {name.replace("/", "."): name for name in witness.under(f"{prefix}outputs/")}
    if not recorded:
        return
    sides = sides_of(checkpoint, witness.inputs, dtype)
    shapes = sides.shapes
    if unknown := sorted({name.partition("@")[0] for name in recorded} - set(shapes)):
        known = ", ".join(shapes)
        raise Unmatched(f"the witness has an output {unknown[0]!r}; {checkpoint.arch} has {known}", "Give it one of these names")
    weights = {name: np.asarray(cotangents.get(name, np.zeros(shape)), dtype).reshape(shape) for name, shape in shapes.items()}
    zeros = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
    ours, slopes, _ = sides.pull(sides.variables, weights, zeros, 0.0)
    for name, at in recorded.items():
        yield _compared(witness, f"{prefix}outputs/{at}", ours[name.partition("@")[0]], name, dtype, "forward")
    theirs = {key.removeprefix(checkpoint.source.prefix): key for key in witness.under(f"{prefix}gradients/")}
    whole = {key: witness.arrays[f"{prefix}gradients/{at}"] for key, at in theirs.items() if key in slopes}
    tangent, tangent_theirs = sides.tangential(slopes), sides.tangential({**slopes, **whole})
    for key, at in theirs.items():
        name = key.partition("@")[0]
        if key in whole:
            yield _gated(witness, f"{prefix}gradients/{at}", tangent[key], tangent_theirs[key], f"gradient of {key}", dtype, "grad")
        elif name in slopes:
            yield _compared(witness, f"{prefix}gradients/{at}", slopes[name], f"gradient of {key}", dtype, "grad")


def _no_torch(settings: Any) -> Any:
    raise AssertionError("a witness needs no torch module")


def _compared(witness: Witness, at: str, ours: np.ndarray, name: str, dtype: str, kind: str) -> Row:
    return _gated(witness, at, projected(ours, at), witness.arrays[at], name, dtype, kind)


def projected(array: np.ndarray, at: str) -> np.ndarray:
    """What the recorder keeps of an array at this place: all of it, or of a large one products with seeded random vectors."""
    _, _, part = at.partition("@")
    if not part:
        return array
    flat, state = array.reshape(array.shape[0], -1).astype(np.float64), np.random.RandomState(SEED)
    right, left = state.standard_normal(flat.shape[1]), state.standard_normal(flat.shape[0])
    return flat @ right if part == "rows" else left @ flat


def _gated(witness: Witness, at: str, ours: np.ndarray, theirs: np.ndarray, name: str, dtype: str, kind: str) -> Row:
    """float64 has the fixed gates of `verify`; the program's own precision ten times its drift, and some units in the last place.

    A gradient may be exactly zero but for rounding, as that of HGCN's last curvature on the ball: then a gate relative to it is none, and
    the drift of the program's own precision says how large its rounding is in float64.
    """
    if ours.shape != theirs.shape and np.squeeze(ours).shape == np.squeeze(theirs).shape:  # [P, 1] for [P]
        theirs = theirs.reshape(ours.shape)
    if ours.shape != theirs.shape:
        raise Unmatched(
            f"{name} has shape {theirs.shape} in the witness; the converted model gives {ours.shape}", "Record this checkpoint's model"
        )
    top = largest(theirs) or 1.0
    limit = 10 * witness.drift(at) + UNITS * float(np.finfo(dtype).eps) * top
    if dtype == "float64":
        finer = float(np.finfo(np.float64).eps) / float(np.finfo(witness.dtype).eps)
        limit = max(limit, FLOAT64[kind] * top, 10 * finer * witness.drift(at.removeprefix("double/")))
    return row_of(name, dtype, largest(ours.astype(np.float64) - theirs) / top, limit / top)._replace(ulp=Ulp.of(theirs, ours))


def groups_of(checkpoint: Checkpoint, witness: Witness, several: bool = False) -> Iterator[Row]:
    """Whether the parameters of each group are those of the program's optimizer; `several`: of all its optimizers, one after the other."""
    if len(checkpoint.plans) > 1 and not several:
        there = " or ".join(plan.place for plan in checkpoint.plans)
        raise Usage(
            f"the witness has steps of one optimizer, and the checkpoint has {len(checkpoint.plans)}",
            f"Choose one with --optimizer-at {there}",
        )
    if not checkpoint.plans:
        raise Usage(
            "the witness has steps of an optimizer, and the checkpoint has none", "Record outputs alone, or convert the optimizer too"
        )
    prefix = checkpoint.source.prefix
    theirs = [[str(key).removeprefix(prefix) for key in group] for group in witness.meta["groups"]]
    ours = [[plan.keys[i] for i in listed] for plan in checkpoint.plans for listed in plan.listed]
    differ = [n for n, (a, b) in enumerate(zip(theirs, ours)) if a != b] or ([0] if len(theirs) != len(ours) else [])
    what = f"the parameters of {len(theirs)} groups of the optimizer, in order"
    if differ:
        n = differ[0]
        what += f"; group {n} has {', '.join(theirs[n][:4])} in the program and {', '.join(ours[n][:4])} in the conversion"
    yield row_of(what, "", float(len(differ)), 0.0)


def _steps(checkpoint: Checkpoint, witness: Witness) -> Iterator[Row]:
    """The optimizer from the recorded gradients alone: of each parameter the first step that is beyond its gate, else the nearest to it."""
    if witness.meta.get("closure"):
        yield Row(LEVEL, "", "the optimizer's steps (it evaluates a closure, so gradients alone do not give them)", 0.0, 0.0, True, False)
        return
    trained = {e.key: e for e in checkpoint.entries if e.role == "parameter"}
    dtype, prefix = witness.dtype, checkpoint.source.prefix
    cast = partial(_cast, dtype=dtype)
    variables, state = jax.tree.map(cast, checkpoint.variables), jax.tree.map(cast, checkpoint.opt_state)
    params = variables["params"]
    start = {key: inverse(e, np.asarray(flatten({"params": params})[str(e.path)]), str(e.path)) for key, e in trained.items()}

    @partial(jax.jit, compiler_options=QUICK)
    def advance(slopes: Params, state: OptState, params: Params) -> tuple[Params, OptState]:
        updates, state = checkpoint.optimizer.update(slopes, state, params)
        return jax.tree.map(lambda p, u: p + u, params, updates), state

    without: set[str] = set()
    worst: dict[str, Row] = {}
    for n in range(witness.meta["steps"]):
        found = {key.removeprefix(prefix): array for key, array in witness.under(f"steps/{n}/gradients/").items()}
        if not found:
            break
        without |= {key for key in trained if key not in found}
        slopes: Params = {}
        for key, e in trained.items():
            gradient = found.get(key, np.zeros(e.shape, dtype)).astype(dtype)
            place(slopes, str(e.path).removeprefix("params/"), e.layout.forward(gradient))
        params, state = advance(slopes, state, params)
        flat = flatten({"params": params})
        for at in [p for p in witness.arrays if p.startswith(f"steps/{n}/parameters/")]:
            name = at.removeprefix(f"steps/{n}/parameters/").removeprefix(prefix)
            key = name.partition("@")[0]
            if key in trained and key not in without:
                e, what = trained[key], f"{name}, step {n + 1}"
                ours = inverse(e, np.asarray(flat[str(e.path)]), str(e.path))
                worst[name] = _worse(worst.get(name), _moved(witness, at, ours, start[key], what, dtype))
    yield from worst.values()
    for key in sorted(without):
        yield Row(LEVEL, dtype, f"{key} after the steps (the program gave it no gradient)", 0.0, 0.0, True, False)


def _worse(old: Row | None, new: Row) -> Row:
    """The first that failed, else the nearer to its gate."""
    if old is None or (old.ok and (not new.ok or new.error * old.gate > old.error * new.gate)):
        return new
    return old


def _moved(witness: Witness, at: str, ours: np.ndarray, start: np.ndarray, name: str, dtype: str) -> Row:
    theirs, before = witness.arrays[at].astype(np.float64), projected(start, at)
    way = largest(theirs - before) or 1.0
    limit = 10 * witness.drift(at) + UNITS * float(np.finfo(dtype).eps) * largest(theirs)
    row = row_of(name, dtype, largest(projected(ours, at) - theirs) / way, limit / way)
    if not row.ok or row.gate <= LOOSE:
        return row
    # The recorder replays the steps from the recorded gradients: if these were not the ones that moved the program, all is drift.
    return row._replace(
        what=f"{name} (the program's own drift is {row.gate:.0%} of the way: do its steps use other gradients?)", verified=False
    )


def _cast(leaf: Any, dtype: str) -> Any:
    floating = jax.numpy.issubdtype(np.asarray(leaf).dtype, np.floating)
    return jax.numpy.asarray(np.asarray(leaf, dtype)) if floating else leaf


__all__ = ["LEVEL", "LOOSE", "UNITS", "by_key", "confirmed", "groups_of", "modules", "projected", "row_of", "sides_of", "witnessed"]
