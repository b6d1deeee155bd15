"""The latest and the best state of a run on disk, written by Orbax while training continues.

A checkpoint is either complete or absent: Orbax writes into a folder of another name and renames it. So a run that was killed at any
moment continues from the last complete checkpoint.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from port_jax.training.history import History
from port_jax.training.state import TrainingError, TrainState

__all__ = ["Checkpoints", "Progress"]


@dataclasses.dataclass
class Progress:
    """The part of a run that is not in its `TrainState`."""

    history: History
    best: float | None = None
    """The best value of the monitored metric so far, and its step."""
    best_step: int = 0
    waited: int = 0
    """Evaluations since then."""


class Checkpoints:
    """`folder/latest/<step>` and `folder/best/<step>`: one state each, with the history of the run."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).absolute()
        self.latest, self.best = (self._manager(name) for name in ("latest", "best"))

    def _manager(self, name: str) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(max_to_keep=1, create=True, enable_async_checkpointing=True)
        handlers = {"state": ocp.StandardCheckpointHandler(), "progress": ocp.JsonCheckpointHandler()}
        return ocp.CheckpointManager(self.folder / name, options=options, item_handlers=handlers)

    def save(self, state: TrainState, progress: Progress, *, best: bool = False) -> None:
        """Begin to write a state; its arrays are copied to the host before this returns."""
        manager, step = self.best if best else self.latest, int(state.step)
        if step in manager.all_steps():
            return
        items = {"state": ocp.args.StandardSave(_plain(state)), "progress": ocp.args.JsonSave(dataclasses.asdict(progress))}
        manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, like: TrainState, *, best: bool = False) -> tuple[TrainState, Progress] | None:
        """The saved state and progress, or None if nothing is saved. `like` gives the structure, shapes and types."""
        manager = self.best if best else self.latest
        step = manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), _plain(like))
        self._compare(manager, step, abstract)
        items = {"state": ocp.args.StandardRestore(abstract), "progress": ocp.args.JsonRestore()}
        found = manager.restore(step, args=ocp.args.Composite(**items))
        progress = found["progress"]
        state = TrainState(**{name: getattr(found["state"], name) for name in TrainState._fields})
        state = state._replace(key=jax.random.wrap_key_data(state.key, impl=jax.random.key_impl(like.key)))
        return state, Progress(**{**progress, "history": History(**progress["history"])})

    def _compare(self, manager: ocp.CheckpointManager, step: int, expected: Any) -> None:
        """Raise TrainingError if the folder contains the state of another model or optimizer."""
        saved = manager.item_metadata(step)["state"]
        has = {_name(path): tuple(x.shape) for path, x in jax.tree.leaves_with_path(saved.tree)}
        wants = {_name(path): tuple(x.shape) for path, x in jax.tree.leaves_with_path(expected)}
        wrong = sorted(name for name in has.keys() | wants.keys() if has.get(name) != wants.get(name))
        if wrong:
            name = wrong[0]
            raise TrainingError(
                f"{self.folder} contains another run: {name} is {has.get(name, 'missing')} there, {wants.get(name, 'missing')} here; "
                "give another folder, or the model and optimizer with which it was made"
            )

    def wait(self) -> None:
        """Wait until everything is on disk."""
        self.latest.wait_until_finished()
        self.best.wait_until_finished()

    def close(self) -> None:
        """`wait`, then stop saving."""
        self.latest.close()
        self.best.close()


def _plain(state: TrainState) -> TrainState:
    """The state with its random key as numbers."""
    return state._replace(key=jax.random.key_data(state.key))


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
