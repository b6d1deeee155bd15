"""The folder of a run of `port_jax.training.fit`: the state of a model, which another checkpoint says what it is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from weights.contents import Contents
from weights.errors import Unreadable, Usage
from weights.files.other_formats import is_run
from weights.files.source import Source
from weights.from_jax import beside, leaves
from weights.types import Document

NO_OPTIMIZER = (
    "the checkpoint that the run began with has no optimizer; --made-with optimizer.json names the run's, such as "
    '{"name": "RiemannianAdam", "lr": 0.01}'
)
AS_ASKED = "as was asked: the file keeps the state of the checkpoint that the run began with"
BESIDE = "they stand beside the state of the checkpoint's optimizer, and a torch file has no place for them"
NO_PLACE = "the torch file has no place for them"
BEGAN = "Give the checkpoint that the run began with"
C = TypeVar("C", bound=Contents)


def read(folder: str | Path, which: str | int = "latest") -> Any:
    """The state of a run, its history and its best step (`port_jax.training.Saved`). Raises Unreadable with the reason."""
    from port_jax.training import TrainingError, restore

    if not is_run(folder):
        raise Unreadable("not the folder of a run of port_jax.training.fit", "Give the folder that was passed to fit", path=folder)
    try:
        return restore(folder, which)
    except (TrainingError, ValueError) as error:
        raise Unreadable(str(error)) from None


def after(contents: C, folder: str | Path, which: str | int = "latest", optimizer: bool = True) -> C:
    """The contents with the numbers of a run's state: variables, mutable collections, and the optimizer's state unless it is left out.

    Collections that are no variables go where the port says (`Port.collected`); those without a place in the file are left out.
    Raises Unreadable for another folder, and Usage where the state is not one of this model and this optimizer.
    """
    saved = read(folder, which)
    source, beyond, placeless = _collected(contents, saved.state.collections)
    found = {"params": saved.state.params, **{name: tree for name, tree in saved.state.collections.items() if name not in beyond}}
    variables = {name: beside(contents.variables.get(name, {}), tree, name, BEGAN) for name, tree in found.items()}
    run: Document = {"folder": Path(folder).name, "step": int(saved.state.step), "best_step": saved.best_step}
    state, left = contents.opt_state, list(leaves(saved.state.opt_state))
    if optimizer and contents.plans:
        inner, left = _inner(state, saved.state.opt_state)
        state = beside(state, inner, "opt_state", BEGAN)
    run["left_out"] = [f"opt_state/{at}" for at in left] + placeless
    because = (AS_ASKED if not optimizer else BESIDE) if contents.plans or not optimizer else NO_OPTIMIZER
    if why := [because] * bool(left) + [NO_PLACE] * bool(placeless):
        run["because"] = "; ".join(why)
    report = {**contents.report, "run": run}
    return replace(contents, variables={**contents.variables, **variables}, opt_state=state, report=report, source=source)


def _collected(contents: Contents, collections: Mapping[str, Any]) -> tuple[Source, set[str], list[str]]:
    """The source with what the port takes of a run's collections; the names of all that are no variables; the arrays without a place."""
    if contents.port is None or contents.port.collected is None:
        return contents.source, set(), []
    beyond = {name: tree for name, tree in collections.items() if name not in contents.variables}
    source, taken = contents.port.collected(contents.source, beyond)
    return source, set(beyond), [f"{name}/{at}" for name, tree in beyond.items() if name not in taken for at in leaves(tree)]


def _inner(wanted: Any, found: Any) -> tuple[dict[str, Any], list[str]]:
    """The leaves of an optimizer's state in a saved one, which may be that of an `optax.chain`, and the paths of what else is in it.

    Raises Usage where it contains no state of the structure and shapes of `wanted`, or several.
    """
    want, have = leaves(wanted), leaves(found)
    first = next(iter(want))
    starts = [at.removesuffix(first) for at in have if at == first or at.endswith(f"/{first}")]
    fitting = [s for s in starts if all(s + at in have and np.shape(have[s + at]) == np.shape(leaf) for at, leaf in want.items())]
    if len(fitting) != 1:
        what = "several states" if fitting else "no state"
        raise Usage(
            f"the run's opt_state contains {what} of the checkpoint's optimizer, which has {first} and {len(want) - 1} more arrays",
            f"{BEGAN}, or leave the optimizer out: --no-optimizer (optimizer=False)",
        )
    mine = {fitting[0] + at for at in want}
    return {at: have[fitting[0] + at] for at in want}, [at for at in have if at not in mine]


def described(folder: str | Path, which: str | int = "latest") -> Document:
    """What a run has saved, as JSON: the steps that are kept, the best one, the last row of the record, the arrays of one state."""
    from port_jax.training.checkpoints import Checkpoints

    saved = read(folder, which)
    with Checkpoints(folder, write=False) as checkpoints:
        kept = [int(step) for step in checkpoints.manager.all_steps()]
    trees = {"params": saved.state.params, **saved.state.collections}
    arrays = {f"{name}/{at}": np.asarray(leaf) for name, tree in trees.items() for at, leaf in leaves(tree).items()}
    moments = jax.tree.leaves(saved.state.opt_state)
    rows = saved.history.rows()
    return {
        "folder": str(folder),
        "format": "run of port_jax.training.fit",
        "step": int(saved.state.step),
        "kept": kept,
        "best_step": saved.best_step,
        "record": rows[-1] if rows else None,
        "arrays": [{"name": name, "shape": list(x.shape), "dtype": str(x.dtype)} for name, x in arrays.items()],
        "count": len(arrays),
        "bytes": sum(x.nbytes for x in arrays.values()),
        "opt_state": {"arrays": len(moments), "bytes": sum(leaf.nbytes for leaf in moments)},
    }


__all__ = ["BEGAN", "after", "described", "is_run", "read"]
