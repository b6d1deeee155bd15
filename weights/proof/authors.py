"""A conversion beside what its authors' code computed: outputs, gradients of its loss, and steps of training. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from numpy.typing import ArrayLike

from weights.checkpoint import Checkpoint
from weights.errors import Unmatched
from weights.mapping.probes import Outputs, Resumed
from weights.proof.flax_run import QUICK, Arrays
from weights.proof.rows import Row, largest
from weights.proof.sides import Sides
from weights.proof.witness import Witness
from weights.proof.witnessed import LEVEL, LOOSE, UNITS, by_key, groups_of, row_of, sides_of
from weights.types import OptState, Params, Variables


def of_authors(checkpoint: Checkpoint, witness: Witness) -> Iterator[Row]:
    """Outputs, and the gradients of the loss, in float32, under the drift of the conversion itself: the authors' was not recorded."""
    sides, loss = sides_of(checkpoint, witness.inputs, "float32"), witness.meta["loss"]
    zeros = {name: np.zeros(shape, np.float32) for name, shape in sides.shapes.items()}

    def found(variables: Variables) -> Arrays:
        outputs, *_ = sides.pull(variables, zeros, zeros, 0.0)
        slopes = {} if loss is None else jax.grad(loss)({name: jax.numpy.asarray(outputs[name]) for name in witness.meta["outputs"]})
        _, gradients, _ = sides.pull(variables, {**zeros, **{name: np.asarray(slope) for name, slope in slopes.items()}}, zeros, 0.0)
        gradients = sides.tangential(gradients)
        return {f"outputs/{n}": a for n, a in outputs.items()} | {f"gradients/{key}": a for key, a in gradients.items()}

    ours = found(sides.variables)
    moved = [found(_nudged(sides.variables, seed)) for seed in (1, 2, 3)]
    slopes = {at.removeprefix("gradients/"): a for at, a in witness.arrays.items() if at.startswith("gradients/")}
    if unknown := sorted(set(witness.arrays) - set(ours)):
        raise Unmatched(f"the witness has {unknown[0]!r}, which the converted model does not have", "Give the witness of this checkpoint")
    tangent = sides.tangential({**{key.removeprefix("gradients/"): a for key, a in ours.items() if key.startswith("gradients/")}, **slopes})
    for at, array in witness.arrays.items():
        kind, _, name = at.partition("/")
        theirs = tangent[name] if kind == "gradients" else array
        mine, *others = (side[at][: len(theirs)] if np.ndim(theirs) else side[at] for side in (ours, *moved))
        top = largest(theirs) or 1.0
        drift = max(largest(other - mine) for other in others)
        limit = 10 * drift + UNITS * float(np.finfo(np.float32).eps) * top
        yield row_of(f"gradient of {name}" if kind == "gradients" else name, "float32", largest(mine - theirs) / top, limit / top)
    if witness.meta["groups"] is not None:
        yield from groups_of(checkpoint, witness, several=True)
    if witness.meta["resumed"] is not None:
        yield from _resumed(checkpoint, sides, witness.meta["resumed"], loss, witness.meta["training"])


def _resumed(checkpoint: Checkpoint, sides: Sides, found: Resumed, loss: Callable[[Outputs], Any] | None,
             training: Callable[..., tuple[Outputs, Variables]] | None) -> Iterator[Row]:  # fmt: skip
    """The losses and the tensors after the last step of a run that goes on from the file by its own gradients, in float32, under the drift
    of this run from starts that are moved by one unit in the last place. Errors of tensors are parts of the way that they went.

    A step of geoopt on a curved manifold makes the whole point anew, by formulas that round more than those here, so that each step adds
    units in the last place of the point.
    """
    if checkpoint.optimizer is None or loss is None:
        yield Row(LEVEL, "float32", "steps of the optimizer (none was converted)", 0.0, 0.0, True, False)
        return

    from port_jax.optim.clip import clip_grad_norm

    cut = None if found.clip is None else clip_grad_norm(found.clip)

    @partial(jax.jit, compiler_options=QUICK)
    def step(variables: Variables, state: OptState) -> tuple[Any, Variables, OptState]:
        def value(params: Params) -> tuple[Any, Variables]:
            given = {**variables, "params": params}
            if training is None:
                return loss(sides.run_flax(given, sides.given)), {}
            outputs, written = training(checkpoint.model, given, sides.given)
            return loss(outputs), dict(written)

        (now, written), slopes = jax.value_and_grad(value, has_aux=True)(variables["params"])
        if cut is not None:
            slopes = cut.update(slopes, optax.EmptyState())[0]
        updates, state = checkpoint.optimizer.update(slopes, state, variables["params"])
        return now, {**variables, **written, "params": jax.tree.map(lambda p, u: p + u, variables["params"], updates)}, state

    def run(variables: Variables) -> tuple[np.ndarray, Variables]:
        state, losses = jax.tree.map(sides.cast, checkpoint.opt_state), []
        for _ in found.losses:
            now, variables, state = step(variables, state)
            losses.append(float(now))
        return np.array(losses), variables

    units = UNITS * float(np.finfo(np.float32).eps)
    ours, end = run(sides.variables)
    moved = [run(_nudged(sides.variables, seed)) for seed in (1, 2, 3)]
    top = largest(found.losses) or 1.0
    limit = 10 * max(largest(other - ours) for other, _ in moved) + units * top
    yield row_of(f"losses before {len(ours)} steps", "float32", largest(ours - found.losses) / top, limit / top)
    start, here, *there = (by_key(replace(checkpoint, variables=variables)) for variables in (sides.variables, end, *(v for _, v in moved)))
    for key, theirs in found.after.items():
        if key not in here:
            raise Unmatched(f"the witness has {key!r} after the steps, which the file does not have", "Give the witness of this checkpoint")
        way = largest(theirs.astype(np.float64) - start[key]) or 1.0
        rounded = units * largest(theirs) * (len(ours) if key in sides.curved else 1)
        limit = 10 * max(largest(other[key].astype(np.float64) - here[key]) for other in there) + rounded
        row = row_of(f"{key} after {len(ours)} steps", "float32", largest(here[key].astype(np.float64) - theirs) / way, limit / way)
        yield row if not row.ok or row.gate <= LOOSE else row._replace(verified=False)


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
