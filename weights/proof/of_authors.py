"""A conversion beside arrays that the authors' own code has written, without its drift: outputs, gradients of the loss, steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from weights.checkpoint import Checkpoint
from weights.errors import Unmatched
from weights.mapping.entries import flatten, inverse
from weights.proof.flax_run import Arrays
from weights.proof.rows import Row, largest
from weights.proof.sides import Sides
from weights.proof.witness import Witness
from weights.types import Variables

UNITS = 4
"""Units in the last place that a number may differ by beyond ten times the drift."""
EPS = float(np.finfo(np.float32).eps)
SEEDS = (1, 2, 3)


def of_authors(sides: Sides, checkpoint: Checkpoint, witness: Witness) -> Iterator[Row]:
    """Outputs, and the gradients of the loss, in float32, under the drift of the conversion itself: the authors' was not recorded. Then the
    losses and the parameters of further steps of the file's optimizer, where they were written.
    """
    yield from _outputs(sides, witness)
    if witness.meta["count"]:
        yield from _steps(sides, checkpoint, witness)


def _outputs(sides: Sides, witness: Witness) -> Iterator[Row]:
    loss = witness.meta["loss"]

    def found(variables: Variables) -> Arrays:
        outputs, gradients, _ = _slopes(sides, variables, loss, list(witness.meta["outputs"]))
        gradients = sides.tangential(gradients)
        return {f"outputs/{n}": a for n, a in outputs.items()} | {f"gradients/{key}": a for key, a in gradients.items()}

    ours = found(sides.variables)
    moved = [found(_nudged(sides.variables, seed)) for seed in SEEDS]
    arrays = {at: array for at, array in witness.arrays.items() if at.startswith(("outputs/", "gradients/"))}
    slopes = {at.removeprefix("gradients/"): a for at, a in arrays.items() if at.startswith("gradients/")}
    if unknown := sorted(set(arrays) - set(ours)):
        raise Unmatched(f"the witness has {unknown[0]!r}, which the converted model does not have", "Give the witness of this checkpoint")
    tangent = sides.tangential({**{key.removeprefix("gradients/"): a for key, a in ours.items() if key.startswith("gradients/")}, **slopes})
    for at, array in arrays.items():
        kind, _, name = at.partition("/")
        theirs = tangent[name] if kind == "gradients" else array
        mine, *others = (side[at][: len(theirs)] if np.ndim(theirs) else side[at] for side in (ours, *moved))
        top = largest(theirs) or 1.0
        drift = max(largest(other - mine) for other in others)
        limit = 10 * drift + UNITS * EPS * top
        yield _row(f"gradient of {name}" if kind == "gradients" else name, largest(mine - theirs) / top, limit / top)


def _slopes(sides: Sides, variables: Variables, loss: Any, names: list[str]) -> tuple[Arrays, Arrays, Variables]:
    """Outputs, the gradients of the loss by key, and the same as a tree."""
    zeros = {name: np.zeros(shape, np.float32) for name, shape in sides.shapes.items()}
    outputs, *_ = sides.pull(variables, zeros, zeros, 0.0)
    slopes = {} if loss is None else jax.grad(loss)({name: jax.numpy.asarray(outputs[name]) for name in names})
    _, gradients, tree = sides.pull(variables, {**zeros, **{name: np.asarray(slope) for name, slope in slopes.items()}}, zeros, 0.0)
    return outputs, gradients, tree


def _steps(sides: Sides, checkpoint: Checkpoint, witness: Witness) -> Iterator[Row]:
    """The losses before each step, and where the parameters are in the end, as a part of the way that they went."""
    names, count, loss = list(witness.meta["outputs"]), witness.meta["count"], witness.meta["loss"]
    if checkpoint.opt_state is None or loss is None:
        yield Row("witness", "", f"{count} steps of the optimizer (the checkpoint has none)", 0.0, 0.0, True, False)
        return

    @jax.jit
    def advance(slopes: Any, state: Any, params: Any) -> Any:
        updates, state = checkpoint.optimizer.update(slopes, state, params)
        return jax.tree.map(lambda p, u: p + u, params, updates), state

    def walked(variables: Variables) -> tuple[np.ndarray, Arrays]:
        params, state, losses = variables["params"], jax.tree.map(sides.cast, checkpoint.opt_state), []
        for _ in range(count):
            outputs, _, slopes = _slopes(sides, {**variables, "params": params}, loss, names)
            losses.append(float(loss({name: outputs[name] for name in names})))
            params, state = advance(slopes["params"], state, params)
        flat = flatten({"params": params})
        return np.array(losses), {e.key: inverse(e, np.asarray(flat[str(e.path)]), str(e.path)) for e in trained}

    trained = [e for e in checkpoint.entries if e.role == "parameter"]
    start = sides.back(sides.variables)
    (losses, ours), *others = (walked(variables) for variables in (sides.variables, *(_nudged(sides.variables, seed) for seed in SEEDS)))
    theirs = witness.meta["losses"]
    if theirs is not None:
        top = largest(theirs) or 1.0
        limit = 10 * max(largest(other - losses) for other, _ in others) / top + UNITS * EPS
        yield _row(f"losses before {count} steps", largest(losses - theirs) / top, limit)
    for at in [at for at in witness.arrays if at.startswith("after/")]:
        key = at.removeprefix("after/")
        if key not in ours:
            continue
        way = largest(witness.arrays[at] - start[key]) or 1.0
        drift = max(largest(other[key] - ours[key]) for _, other in others)
        limit = (10 * drift + UNITS * EPS * largest(witness.arrays[at])) / way
        yield _row(f"{key} after {count} steps", largest(ours[key] - witness.arrays[at]) / way, limit)


def _row(what: str, error: float, gate: float) -> Row:
    ok = bool(np.isfinite(error)) and error <= gate
    return Row(level="witness", dtype="float32", what=what, error=error, gate=gate, ok=ok)


def _nudged(variables: Variables, seed: int) -> Variables:
    """Every number moved by one unit in the last place, up or down at random."""
    random = np.random.default_rng(seed)

    def move(leaf: ArrayLike) -> ArrayLike:
        array = np.asarray(leaf)
        if array.dtype.kind != "f":
            return leaf
        return jax.numpy.asarray(np.nextafter(array, np.where(random.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype)))

    return jax.tree.map(move, variables)


__all__ = ["of_authors"]
